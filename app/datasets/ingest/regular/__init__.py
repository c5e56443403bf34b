"""CSV files in which every row and every cell is as plain as the first: read with NumPy.

``likely`` says at a glance which files are worth a look, ``regular_file`` looks at the first rows
and cuts the file into blocks, ``conversion`` takes these through: ``block_reader`` reads one, here
or in a process of its own (``reading_process``). Of each block ``text_blocks`` finds the cells,
``columns`` reads those of a column (``digits`` and ``stamps`` know how numbers and datetimes are
written) and counts them (``counts``), ``pieces`` puts the text together whose digest is taken, and
``arrow_stream`` hands the values to the engine. At the end ``counted_tables`` has the counts
profiled.

Whatever is not as plain raises Irregular, and the usual way begins anew: this one never has to
judge a cell, only to be sure of it.
"""
