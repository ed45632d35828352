"""The warehouse: where raw rows, dbt's models and their history live, behind one small protocol (`base.py`)."""
