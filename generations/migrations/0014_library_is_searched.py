"""The library is searched by words. What stands between words is made a blank, so that a name's parts are words."""

import django.contrib.postgres.indexes
from django.db import migrations, models

import generations.models.library

FORWARD = """
CREATE FUNCTION darkroom_library_words(name text, category text, prompt text, tags text[]) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN pg_catalog.to_tsvector('pg_catalog.simple'::regconfig, pg_catalog.translate(
    name || ' ' || category || ' ' || prompt || ' ' || pg_catalog.array_to_string(tags, ' '),
    '._/@:+-<>&%=?#~', '               '));
"""
BACKWARD = "DROP FUNCTION darkroom_library_words(text, text, text, text[]);"


class Migration(migrations.Migration):
    dependencies = [("generations", "0013_prompt_versions_never_change")]

    operations = [
        migrations.RunSQL(FORWARD, BACKWARD),
        migrations.AddField(
            model_name="libraryitem",
            name="downloads",
            field=models.PositiveBigIntegerField(
                db_default=0,
                default=0,
                editable=False,
                help_text="How often its picture was asked for by the download link.",
            ),
        ),
        migrations.AddIndex(
            model_name="libraryitem",
            index=django.contrib.postgres.indexes.GinIndex(
                generations.models.library.LibraryWords("name", "category", "prompt", "tags"),
                name="library_item_words",
            ),
        ),
        migrations.AddIndex(
            model_name="libraryitem",
            index=django.contrib.postgres.indexes.GinIndex(fields=["tags"], name="library_item_tags"),
        ),
    ]
