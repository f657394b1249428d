"""What the experiments share: data, contenders, trials, cells on disk, and what comes out."""
