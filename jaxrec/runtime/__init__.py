"""What the machine offers: devices, memory, threads, BLAS, files, checkpoints, progress and plots."""
