from django.db import migrations

#: Sessions stay: `web.accounts.session_store` finds them by the same hash.
_HASH = "UPDATE django_session SET session_key = left(encode(sha256(convert_to(session_key, 'UTF8')), 'hex'), 40)"


class Migration(migrations.Migration):
    dependencies = [("people", "0006_used_codes"), ("sessions", "0001_initial")]

    operations = [migrations.RunSQL(_HASH, migrations.RunSQL.noop)]
