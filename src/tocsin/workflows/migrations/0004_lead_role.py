from django.db import migrations


def _rename(apps, _editor):
    for workflow in apps.get_model("workflows", "Workflow").objects.all():
        for action in workflow.definition.get("actions", ()):
            if "managers" in action:
                action["leads"] = action.pop("managers")
            if "roles" in action:
                action["roles"] = ["lead" if role == "manager" else role for role in action["roles"]]
        workflow.save(update_fields=["definition"])


class Migration(migrations.Migration):
    dependencies = [("workflows", "0003_one_column_a_reason")]

    operations = [migrations.RunPython(_rename, migrations.RunPython.noop)]
