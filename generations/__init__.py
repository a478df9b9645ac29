"""What people ask for and what becomes of it: the lifecycle of Generations."""
