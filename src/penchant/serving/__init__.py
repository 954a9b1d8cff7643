"""The face of Penchant: the engine that answers, and HTTP around it."""
