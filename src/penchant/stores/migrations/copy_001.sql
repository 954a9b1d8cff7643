-- A durable copy of the state: its partitions with their fences, and their entries.

CREATE TABLE penchant.copy_partitions (
  id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  name text NOT NULL,
  gid text NOT NULL,        -- of the definition: copies of two lie beside each other
  partition text NOT NULL,  -- u017, i003
  position bigint NOT NULL DEFAULT 0,
  cleared bigint NOT NULL DEFAULT 0,  -- how often everything was dropped
  UNIQUE (name, gid, partition)
);

CREATE TABLE penchant.copy_entries (
  partition int NOT NULL REFERENCES penchant.copy_partitions ON DELETE CASCADE,
  key bytea NOT NULL,
  position bigint NOT NULL,  -- of the commit that wrote it last
  value bytea,               -- null: a key on the item side that was dropped
  PRIMARY KEY (partition, key)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

ALTER TABLE penchant.copy_entries ALTER COLUMN value SET STORAGE EXTERNAL;  -- packed already
