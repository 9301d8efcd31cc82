from django.db import migrations


def _rename(apps, _editor):
    for provider in apps.get_model("identity", "IdentityProvider").objects.all():
        for grant in (grant for mapping in provider.roles for grant in mapping.get("groups", ())):
            roles = grant.get("on_call_roles", ())
            grant["on_call_roles"] = ["lead" if role == "manager" else role for role in roles]
        provider.save(update_fields=["roles"])


class Migration(migrations.Migration):
    dependencies = [("identity", "0002_link_approval")]

    operations = [migrations.RunPython(_rename, migrations.RunPython.noop)]
