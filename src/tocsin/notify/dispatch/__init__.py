"""The delivery pipeline: claims due deliveries, sends them, and records results, retries, receipts and fallbacks."""
