"""A terminal state never changes: the database refuses it, whatever code asks for it."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION darkroom_refuse_change_of_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'terminal is terminal: % % has ended', TG_TABLE_NAME, OLD.id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'terminal_is_terminal';
END
$$;
CREATE TRIGGER generation_terminal BEFORE UPDATE OF status ON generations_generation FOR EACH ROW
    WHEN (OLD.status IN ('completed', 'failed', 'cancelled') AND NEW.status IS DISTINCT FROM OLD.status)
    EXECUTE FUNCTION darkroom_refuse_change_of_end();
CREATE TRIGGER submission_terminal BEFORE UPDATE OF state ON generations_submission FOR EACH ROW
    WHEN (OLD.state IN ('succeeded', 'failed', 'cancelled') AND NEW.state IS DISTINCT FROM OLD.state)
    EXECUTE FUNCTION darkroom_refuse_change_of_end();
"""
BACKWARD = """
DROP TRIGGER submission_terminal ON generations_submission;
DROP TRIGGER generation_terminal ON generations_generation;
DROP FUNCTION darkroom_refuse_change_of_end();
"""


class Migration(migrations.Migration):
    dependencies = [("generations", "0001_initial")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
