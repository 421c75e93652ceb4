"""HTML, plots and tables of sweeps and benchmarks."""
