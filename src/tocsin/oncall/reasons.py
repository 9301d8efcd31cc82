"""The reasons of who is on call, and of coverage problems."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

NO_SUCH_SCHEDULE = ReasonType("schedule.not_found", 'no schedule named "{name}".')

# Why a user is on call: the source, and how it was replaced.

SHIFT = ReasonType("shift.assigned", "shift {shift} of {schedule}")
OVERRIDE = ReasonType("override.unnamed", "an override")
NAMED_OVERRIDE = ReasonType("override.named", "override {name}")
BY_USER = ReasonType("shift.of_user", "{source}: {user}")
REPLACED_BY = ReasonType("override.replaced_by", "{source}: {user} instead")
OVERRIDE_OF_ROLE = ReasonType("override.of_role", "{source}: {user} for {role} of {schedule}")
OVERRIDE_OF_SCHEDULE = ReasonType("override.of_schedule", "{source}: {user} for all of {schedule}")
ORDER_WITHOUT_SCHEDULE = ReasonType("group.order_without_schedule", "{role} of {group}; the group has no schedule")
ORDER_WITHOUT_SHIFT = ReasonType("group.order_without_shift", "{role} of {group}; no active shift")
ORDER_OF_OTHER_ROLE = ReasonType("group.order_without_role", "{role} of {group}; no shift has this role")
ABSENT_WITHOUT_COVER = ReasonType("shift.absent_without_cover", "{source}; out of office, no cover")
COVERS = ReasonType("shift.covers", "covering for {user} (out of office)")
COVERED_BY = ReasonType("shift.covered_by", "{cover} covers for {user} (out of office)")
USER_DEACTIVATED = ReasonType("shift.user_deactivated", "{user} is deactivated")

# Coverage problems.

GAP = ReasonType("coverage.gap", "No {role} on call in {group}.")
ABSENT = ReasonType("coverage.absent", "{user} is {role} of {group} while out of office, with no cover.")
UNREACHABLE = ReasonType("coverage.unreachable", "{user} is on call in {group} and has no usable contact method.")
SHIFT_OF_DEACTIVATED = ReasonType(
    "coverage.shift_of_deactivated_user",
    "Shift {shift} of {schedule} includes {user}, who is deactivated and is not paged.",
)
OVERRIDE_OF_DEACTIVATED = ReasonType(
    "coverage.override_of_deactivated_user", "An override of {schedule} has no effect: {user} is deactivated."
)
NAMED_OVERRIDE_OF_DEACTIVATED = ReasonType(
    "coverage.named_override_of_deactivated_user", "Override {name} of {schedule} has no effect: {user} is deactivated."
)
HIDDEN = ReasonType("coverage.hidden", "Shift {shift} of {schedule} never has an effect: {other} takes precedence.")
DOUBLE_ROLE = ReasonType("coverage.double_role", "{user} is both {first} and {second} of {group}.")
NO_SHIFT = ReasonType("coverage.no_shift", "No shift covers {role} of {group}. The group's order applies: {users}.")
