import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

from tocsin.access.roles import TokenScope


# A statement that changes entries names its purpose, as in `access.audit_log`. This stops mistakes and injected SQL; what a
# database administrator changes on purpose breaks the hash chain.
_APPEND_ONLY = """
CREATE OR REPLACE FUNCTION access_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  purpose text := coalesce(current_setting('tocsin.audit_change', true), '');
BEGIN
  IF TG_OP = 'TRUNCATE' AND purpose = 'restore' THEN
    RETURN NULL;
  END IF;
  IF TG_OP = 'DELETE' AND purpose = 'retention' THEN
    RETURN OLD;
  END IF;
  IF TG_OP = 'UPDATE' AND (NEW.id, NEW.at, NEW.actor_id, NEW.action, NEW.object_type, NEW.object_id, NEW.group_id, NEW.via)
     IS NOT DISTINCT FROM (OLD.id, OLD.at, OLD.actor_id, OLD.action, OLD.object_type, OLD.object_id, OLD.group_id, OLD.via)
  THEN
    IF purpose = 'link' AND OLD.sequence IS NULL
       AND (NEW.actor_name, NEW.object_name, NEW.before, NEW.after, NEW.address)
       IS NOT DISTINCT FROM (OLD.actor_name, OLD.object_name, OLD.before, OLD.after, OLD.address) THEN
      RETURN NEW;
    END IF;
    IF purpose = 'erasure' AND NEW.salt IS NULL
       AND (NEW.sequence, NEW.hash, NEW.content_hash) IS NOT DISTINCT FROM (OLD.sequence, OLD.hash, OLD.content_hash) THEN
      RETURN NEW;
    END IF;
  END IF;
  RAISE EXCEPTION 'The audit log is append-only: % is refused.', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER access_audit_append_only BEFORE UPDATE OR DELETE ON access_auditentry
  FOR EACH ROW EXECUTE FUNCTION access_audit_append_only();
CREATE TRIGGER access_audit_no_truncate BEFORE TRUNCATE ON access_auditentry
  FOR EACH STATEMENT EXECUTE FUNCTION access_audit_append_only();
"""
_NOT_APPEND_ONLY = "DROP FUNCTION access_audit_append_only() CASCADE"


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="SharedCacheEntry",
            fields=[
                ("key", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("value", models.JSONField()),
                ("expires_at", models.DateTimeField(db_index=True)),
            ],
        ),
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100, verbose_name="name")),
                ("hash", models.BinaryField(max_length=32, unique=True)),
                ("prefix", models.CharField(max_length=12)),
                ("scope", models.CharField(choices=TokenScope.choices(), max_length=10)),
                (
                    "group_ids",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.BigIntegerField(), db_default=[], default=list
                    ),
                ),
                (
                    "clients",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=200), db_default=[], default=list
                    ),
                ),
                ("created_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
                ("warned_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_from", models.GenericIPAddressField(null=True)),
                ("revoked_at", models.DateTimeField(blank=True, null=True)),
                (
                    "made_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to="access.apitoken",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="api_tokens",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="apitoken",
            constraint=models.CheckConstraint(
                condition=models.Q(("scope__in", list(TokenScope))), name="access_apitoken_scope"
            ),
        ),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_index=True)),
                ("actor_name", models.CharField(max_length=200)),
                ("action", models.CharField(max_length=40)),
                ("object_type", models.CharField(blank=True, max_length=60)),
                ("object_id", models.CharField(blank=True, max_length=60)),
                ("object_name", models.CharField(blank=True, max_length=200)),
                ("group_id", models.BigIntegerField(null=True)),
                ("before", models.JSONField(null=True)),
                ("after", models.JSONField(null=True)),
                ("via", models.CharField(blank=True, max_length=20)),
                ("address", models.GenericIPAddressField(null=True)),
                ("sequence", models.BigIntegerField(null=True, unique=True)),
                ("hash", models.BinaryField(max_length=32, null=True)),
                ("content_hash", models.BinaryField(max_length=32, null=True)),
                ("salt", models.BinaryField(max_length=16, null=True)),
                (
                    "actor",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="AuditChain",
            fields=[
                ("id", models.PositiveSmallIntegerField(primary_key=True, serialize=False)),
                ("head", models.BigIntegerField()),
                ("head_hash", models.BinaryField(max_length=32)),
                ("anchor", models.BigIntegerField()),
                ("anchor_hash", models.BinaryField(max_length=32)),
                ("verified", models.BigIntegerField(db_default=0, default=0)),
                ("verified_hash", models.BinaryField(db_default=b"", default=b"", max_length=32)),
            ],
        ),
        migrations.CreateModel(
            name="AuditForwarding",
            fields=[
                ("id", models.PositiveSmallIntegerField(primary_key=True, serialize=False)),
                ("cursor", models.BigIntegerField(default=0)),
                ("secret", models.TextField()),
                ("not_before", models.DateTimeField()),
                ("sent_at", models.DateTimeField(null=True)),
                ("failed_since", models.DateTimeField(null=True)),
                ("problem_code", models.CharField(db_default="", default="", max_length=80)),
                ("problem_data", models.JSONField(db_default={}, default=dict)),
            ],
        ),
        migrations.RunSQL(_APPEND_ONLY, _NOT_APPEND_ONLY),
        migrations.AddIndex(
            model_name="auditentry",
            index=models.Index(
                condition=models.Q(("sequence__isnull", True)), fields=["id"], name="access_audit_unlinked"
            ),
        ),
        migrations.AddIndex(
            model_name="auditentry",
            index=models.Index(condition=models.Q(("action", "erase")), fields=["id"], name="access_audit_erase"),
        ),
        migrations.AddIndex(
            model_name="auditentry",
            index=models.Index(fields=["object_type", "object_id", "id"], name="access_audit_object"),
        ),
        migrations.AddIndex(
            model_name="auditentry",
            index=models.Index(
                condition=models.Q(("group_id__isnull", False)), fields=["group_id", "id"], name="access_audit_group"
            ),
        ),
    ]
