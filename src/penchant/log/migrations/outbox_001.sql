-- Where events wait for the log, and the ids of those that came in the last days.

CREATE SEQUENCE penchant.outbox_rows;

-- Read in the order (xid, id), and only below the horizon (the oldest transaction that is still open), so that nothing
-- turns up later before what was read. Exactly one of body and event is there.
CREATE TABLE penchant.outbox (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  id bigint NOT NULL DEFAULT nextval('penchant.outbox_rows'),
  accepted_at bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
  body bytea,   -- a collector's: msgpack, checked, with its ts
  event jsonb,  -- an application's: as it came, checked when it is read
  PRIMARY KEY (xid, id),
  CHECK (num_nonnulls(body, event) = 1)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

-- What an id stands for is kept as a hash, so that it tells nothing of a person.
CREATE TABLE penchant.outbox_ids (
  id bytea PRIMARY KEY,  -- the first 16 bytes of its sha256
  xid xid8 NOT NULL,
  row_id bigint NOT NULL
);
CREATE INDEX outbox_ids_place ON penchant.outbox_ids (xid, row_id);

-- By minute, how far events were confirmed: their ids go some days later.
CREATE TABLE penchant.outbox_confirmed (minute bigint PRIMARY KEY, xid xid8 NOT NULL, id bigint NOT NULL);

-- Events of applications that are none, with the reason.
CREATE TABLE penchant.outbox_refused (
  id bigint PRIMARY KEY,
  accepted_at bigint NOT NULL,
  event jsonb NOT NULL,
  field text NOT NULL,
  reason text NOT NULL,
  message text NOT NULL
);

CREATE TABLE penchant.outbox_name (name text NOT NULL);
INSERT INTO penchant.outbox_name VALUES (substr(md5(gen_random_uuid()::text), 1, 16));

-- For applications: one event of the public contract, in the transaction of whoever calls. False for an id that is known.
CREATE FUNCTION penchant.emit(event jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  place bigint := nextval('penchant.outbox_rows');
BEGIN
  IF event ->> 'id' IS NOT NULL THEN
    INSERT INTO penchant.outbox_ids (id, xid, row_id)
    VALUES (substr(sha256(convert_to(event ->> 'id', 'UTF8')), 1, 16), pg_current_xact_id(), place)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
      RETURN false;
    END IF;
  END IF;
  INSERT INTO penchant.outbox (id, event) VALUES (place, emit.event);
  RETURN true;
END
$$;
