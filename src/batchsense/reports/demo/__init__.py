"""The story that ``batchsense demo`` tells on one real data set: one file per scene."""
