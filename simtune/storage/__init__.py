"""Bytes on a disk or in a bucket: nothing half-written is ever seen, and what is read is verified."""
