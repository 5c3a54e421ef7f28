"""What one GPU does at true size, from its rates to a whole server on it; it may import every package but ray.

python -m benchmarks.gpu --out DIR                              # Wan2.1-1.3B at 480x832 in bfloat16, one CUDA device
python -m benchmarks.gpu --out DIR --device cpu --tiny          # the same code at tiny size, as the tests run it
python -m benchmarks.gpu --out DIR --phases forwards,serving --budget 200

Each phase is a process with a time limit. It appends a line of JSON to DIR/facts.jsonl for each fact, at once, so what
is cut short keeps what it has; a step that breaks is a line with "error", one that found no time a line with "skipped".
Weights and data are random and never zeros; a time is the median of five runs or more after two.
"""
