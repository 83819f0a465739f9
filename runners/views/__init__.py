"""What is made of stored runs: the gate, the leaderboard, the report. Only reads them."""
