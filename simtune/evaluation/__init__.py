"""Generation, scores as published, heuristic baselines, and the public leaderboard's files."""
