"""The composition root of a deployment on several machines: collect, stream and serve over Kafka and Redis."""
