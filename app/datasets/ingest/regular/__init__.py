"""CSV files in which every row and every cell is as plain as the first: read with NumPy."""
