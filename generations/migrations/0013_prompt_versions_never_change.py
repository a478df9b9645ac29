"""A prompt's version is never changed: the database refuses it, whatever code asks for it."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION darkroom_refuse_change_of_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a version of a prompt is never changed: % %', TG_TABLE_NAME, OLD.id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'prompt_version_never_changes';
END
$$;
CREATE TRIGGER prompt_version_never_changes BEFORE UPDATE ON generations_promptversion FOR EACH ROW
    WHEN ((OLD.id, OLD.prompt_id, OLD.number, OLD.text, OLD.text_sha256)
        IS DISTINCT FROM (NEW.id, NEW.prompt_id, NEW.number, NEW.text, NEW.text_sha256))
    EXECUTE FUNCTION darkroom_refuse_change_of_version();
"""
BACKWARD = """
DROP TRIGGER prompt_version_never_changes ON generations_promptversion;
DROP FUNCTION darkroom_refuse_change_of_version();
"""


class Migration(migrations.Migration):
    dependencies = [("generations", "0012_batches_and_stories")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
