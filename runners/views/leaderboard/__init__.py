"""The leaderboard: from the runs on disk to a table in five formats."""
