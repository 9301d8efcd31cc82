"""Every kind of configurable object is described completely."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import get_resolver

from tocsin.resources.registry import OVERRIDES, RESOURCES
from tocsin.resources.resource import Resource
from tocsin.web.ui.confirm_delete import CONSEQUENCES


@pytest.mark.parametrize("resource", [*RESOURCES, OVERRIDES], ids=lambda resource: resource.key)
def test_views_of_a_resource_exist(resource: Resource[Any]) -> None:
    names = set(get_resolver().reverse_dict)
    assert {resource.views.list, resource.views.detail, resource.views.edit} <= names


def test_keys_and_object_types_are_unique() -> None:
    resources = (*RESOURCES, OVERRIDES)
    assert len({resource.key for resource in resources}) == len(resources)
    assert len({resource.object_type for resource in resources}) == len(resources)


def test_each_deletion_says_its_consequences() -> None:
    assert set(CONSEQUENCES) == {resource.key for resource in RESOURCES}
