"""How long a test waits for what has to happen before it fails."""

# Seconds, many more than it ever takes: to be slow on a busy machine is no failure; speed is what benchmarks/ measures.
PATIENCE = 60.0
