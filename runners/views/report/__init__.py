"""The report page: stored runs are gathered, pictures made small, one HTML file written."""
