"""Users, their contact methods and absences, and groups."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.postgres.fields import ArrayField
from django.core.checks import CheckMessage
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Model, Q, Value
from django.db.models.functions import Coalesce, Lower, NullIf
from django.db.models.sql.compiler import SQLCompiler
from django.utils.translation import gettext_lazy as _

from tocsin.access import boundary
from tocsin.access.boundary import BoundedManager
from tocsin.access.roles import MemberRole, Role
from tocsin.core.validation.inputs import NAME_IN_USE, NO_SUCH_GROUP, fold_login
from tocsin.core.validation.name_validator import validate_name
from tocsin.core.validation.spec import OwnedSpec, SpecErrors
from tocsin.people import addresses


@models.CharField.register_lookup
class LoginLookup(models.Lookup):
    """`username__login` and `email__login`: equal by `fold_login`, where `iexact` takes a dotless i for an i."""

    lookup_name = "login"

    def get_prep_lookup(self) -> str:
        return fold_login(str(self.rhs))

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        column, parameters = self.process_lhs(compiler, connection)
        return f'lower({column} COLLATE "C") = %s', (*parameters, self.rhs)


class UserManager(BaseUserManager["User"]):
    """Finds people by username, ignoring the case of A to Z.

    Leaves service accounts out, so that nobody signs in as one, and none is offered, assigned or paged as a person.
    """

    def get_queryset(self) -> models.QuerySet[User]:
        return super().get_queryset().filter(is_service_account=False)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(username__login=username or "")


class BoundedUserManager(BoundedManager["User"], UserManager):
    """Finds the users that the viewer may see."""

    #: Migrations of django-allauth use `User.objects`.
    use_in_migrations = True


class User(AbstractBaseUser):
    """A person who signs in, acts on alerts or is paged; or a service account, which only owns tokens."""

    username = models.CharField(_("username"), max_length=100, validators=[validate_name])
    name = models.CharField(_("name"), max_length=200, blank=True)
    #: The name, or else the username.
    display_name: str = models.GeneratedField(  # type: ignore[assignment]
        expression=Coalesce(NullIf(F("name"), Value("")), F("username")),
        output_field=models.CharField(max_length=200),
        db_persist=True,
    )
    email = models.EmailField(_("e-mail"), max_length=254)
    role = models.CharField(_("role"), max_length=12, choices=Role.choices(), default=Role.RESPONDER)
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    language = models.CharField(_("language"), max_length=10, blank=True)
    theme = models.CharField(_("theme"), max_length=5, blank=True, choices=[("light", _("light")), ("dark", _("dark"))])
    #: Whether the alert list has one line an alert.
    has_compact_list = models.BooleanField(default=False, db_default=False)
    #: Saved filters of the alert list: `name`, and `query`, the query of its URL.
    alert_filters = models.JSONField(default=list, db_default=[])
    is_active = models.BooleanField(_("active"), default=True)
    #: Clients by name. If any, the user sees only their alerts and reports, and changes nothing: a client observer.
    clients = ArrayField(models.CharField(max_length=200), default=list, db_default=[])
    #: Owns tokens, and is nobody: never signs in, has no e-mail address and no contact methods, is never on call.
    is_service_account = models.BooleanField(default=False, db_default=False)
    #: The groups for which a service account acts. It is no member of them, so that nobody can page it.
    service_groups: models.ManyToManyField[Group, models.Model] = models.ManyToManyField(
        "Group", related_name="service_accounts"
    )
    #: May sign in by password even when only single sign-on is allowed.
    is_break_glass = models.BooleanField(default=False, db_default=False)
    #: Slug of the identity provider that sets `role`; empty: set by hand.
    role_source = models.CharField(max_length=60, blank=True, default="", db_default="")
    #: Contact methods by priority, quiet hours and hourly limit, as `people.notification_rules` writes them.
    notification_rules = models.JSONField(default=dict, db_default={})
    #: Shift reminders as the user writes them: `before` (1h), and the label of the contact method.
    reminders = models.JSONField(default=list, db_default=[])
    #: Part of the hash in each session, once set: see `people.sign_in_rules`.
    session_stamp = models.CharField(max_length=16, blank=True, default="", db_default="")
    created_at = models.DateTimeField(auto_now_add=True)

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["email"]

    # Use `objects`, unless one of the others is meant. `mentioned` finds the names that visible objects show, of people
    # of any group; it stands first, because Django signs in by the first manager. `accounts` finds service accounts
    # too, whose usernames are in the same name space.
    mentioned: ClassVar[UserManager] = UserManager()
    objects: ClassVar[UserManager] = BoundedUserManager()
    accounts: ClassVar[models.Manager[User]] = BoundedManager()

    class Meta:
        constraints = (
            models.UniqueConstraint(Lower("username"), name="people_user_username"),
            models.UniqueConstraint(Lower("email"), condition=~Q(email=""), name="people_user_email"),
            models.CheckConstraint(
                condition=~Q(email="") | Q(is_service_account=True), name="people_user_email_of_person"
            ),
            models.CheckConstraint(condition=models.Q(role__in=list(Role)), name="people_user_role"),
        )

    @classmethod
    def check(cls, **options: Any) -> list[CheckMessage]:
        """Checks without a database: Django would ask for its version, but each PostgreSQL has generated columns."""
        return super().check(**{**options, "databases": ()})

    def __str__(self) -> str:
        return self.display_name

    def get_full_name(self) -> str:
        return self.display_name

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        hashed: str = super()._get_session_auth_hash(secret=secret)  # type: ignore[misc]
        return f"{hashed}{self.session_stamp}"


class ServiceAccountManager(BaseUserManager["ServiceAccount"]):
    """Finds service accounts only."""

    def get_queryset(self) -> models.QuerySet[ServiceAccount]:
        return super().get_queryset().filter(is_service_account=True)


class ServiceAccount(User):
    """The users that are nobody: see `User.is_service_account`."""

    objects: ClassVar[ServiceAccountManager] = ServiceAccountManager()  # type: ignore[assignment]

    class Meta:
        proxy = True


class ContactMethod(models.Model):
    """A labelled address of a user: channel, delay after the step, and repeats."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="contact_methods")
    label = models.CharField(_("label"), max_length=100)
    channel = models.CharField(_("channel"), max_length=20)
    address = models.CharField(_("address"), max_length=500)
    wait = models.DurationField(_("wait"), default=timedelta)
    repeat_times = models.PositiveSmallIntegerField(_("repeats"), default=0)
    repeat_every = models.DurationField(_("repeat every"), default=timedelta)
    position = models.PositiveSmallIntegerField(default=0)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    verified_at = models.DateTimeField(null=True, blank=True)
    #: Entered by the user, and not used until the code sent to it is confirmed.
    awaits_code = models.BooleanField(default=False, db_default=False)
    #: Whether a test rang while the phone was silenced, as the user answered; NULL if they did not.
    rings_silenced = models.BooleanField(null=True, blank=True)

    objects: ClassVar[models.Manager[ContactMethod]] = BoundedManager()

    class Meta:
        ordering = ("position", "id")
        constraints = (models.UniqueConstraint("user", Lower("label"), name="people_contactmethod_label"),)

    def __str__(self) -> str:
        return self.label

    @property
    def can_confirm(self) -> bool:
        """Whether a code sent to it can verify it."""
        return addresses.accepts_code(self.channel, self.address)


class UsedCode(models.Model):
    """A used one-time code, stored while it is still valid: see `people.sign_in_rules`."""

    #: Hash of the user and the code.
    key = models.CharField(max_length=64, primary_key=True)
    at = models.DateTimeField()


class Group(models.Model):
    """Users with roles and an order, and group contacts such as a chat channel."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    description = models.TextField(_("description"), blank=True)
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    #: What its contacts are notified of, as in a spec: see `people.changes.users.AnnouncementSpec`.
    announcements = models.JSONField(default=list, db_default=[])

    #: Names of groups that a visible object mentions, of any group.
    mentioned: ClassVar[models.Manager[Group]] = models.Manager()
    objects: ClassVar[models.Manager[Group]] = BoundedManager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="people_group_name"),)

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A user's place in a group: the role there, the on-call roles, and the position."""

    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    #: A role that is higher than `User.role`, for this group's objects; empty: the user's role.
    role = models.CharField(_("role"), max_length=12, blank=True, choices=Role.choices(), default="", db_default="")
    #: On-call roles, where no schedule applies.
    roles = ArrayField(models.CharField(max_length=20, choices=MemberRole.choices()), default=list)
    #: Slug of the identity provider that granted the membership; empty: given by hand.
    source = models.CharField(max_length=60, blank=True, default="", db_default="")
    position = models.PositiveSmallIntegerField(default=0)
    #: Whether the group's other members see the user's addresses and phone numbers. False if the user was added by
    #: somebody who did not see them, until the user or an administrator agrees.
    shows_addresses = models.BooleanField(default=True, db_default=True)

    objects: ClassVar[models.Manager[Membership]] = BoundedManager()

    class Meta:
        ordering = ("position", "id")
        constraints = (models.UniqueConstraint(fields=("group", "user"), name="people_membership_once"),)


class GroupContact(models.Model):
    """An address that reaches a whole group, such as a chat channel or mailing list."""

    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="contacts")
    label = models.CharField(_("label"), max_length=100)
    channel = models.CharField(_("channel"), max_length=20)
    address = models.CharField(_("address"), max_length=500)
    position = models.PositiveSmallIntegerField(default=0)

    objects: ClassVar[models.Manager[GroupContact]] = BoundedManager()

    class Meta:
        ordering = ("position", "id")
        constraints = (models.UniqueConstraint("group", Lower("label"), name="people_groupcontact_label"),)


class OutOfOffice(models.Model):
    """A period in which a user is away, and who covers. Without cover the user is still paged."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="absences")
    starts_at = models.DateTimeField(_("from"))
    ends_at = models.DateTimeField(_("to"))
    #: Who covers in every group without a cover of its own.
    cover = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    note = models.CharField(_("note"), max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[models.Manager[OutOfOffice]] = BoundedManager()

    class Meta:
        ordering = ("starts_at", "id")
        constraints = (models.CheckConstraint(condition=Q(ends_at__gt=F("starts_at")), name="people_outofoffice_span"),)
        indexes = (
            # Who is away at a moment, or will be.
            models.Index(fields=("user", "ends_at"), name="people_outofoffice_current"),
        )


class OutOfOfficeCover(models.Model):
    """Who covers for an absent user in one group."""

    absence = models.ForeignKey(OutOfOffice, on_delete=models.CASCADE, related_name="covers")
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")

    objects: ClassVar[models.Manager[OutOfOfficeCover]] = BoundedManager()

    class Meta:
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=("absence", "group"), name="people_outofofficecover_once"),)


# ---------- name lookup
# Names in specs: a name that is still free, and the group with a given name. Case is ignored.


def names_check[M: Model](model: type[M], existing: M | None) -> Callable[[OwnedSpec, SpecErrors], None]:
    """Returns a check for `Spec.read`: no other row of `model` has the name, and the group exists."""

    def check(spec: OwnedSpec, errors: SpecErrors) -> None:
        others = model._default_manager.exclude(pk=existing.pk) if existing else model._default_manager.all()
        if not errors.has("name") and others.filter(name__iexact=spec.name).exists():
            errors.add("name", NAME_IN_USE(name=spec.name), "name_taken")
        if spec.group and find_group(spec.group) is None:
            errors.add("group", NO_SUCH_GROUP(name=spec.group), "not_found")

    return check


def find_group(name: str) -> Group | None:
    """Returns the group with that name, or None if there is none that the viewer sees."""
    with boundary.as_viewer():
        return Group.objects.filter(name__iexact=name).first() if name else None
