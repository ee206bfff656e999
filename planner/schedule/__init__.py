"""Who, when, how many: waves and batches."""
