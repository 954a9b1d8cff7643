"""The words of Penchant: plain types and protocols that every other room shares."""
