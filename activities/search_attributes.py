"""Longtake's search attributes in a namespace of Temporal: what lists of jobs by state stand on."""

import logging

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.service import RPCError

from longtake.names import SEARCH_ATTRIBUTES

_log = logging.getLogger(__name__)


async def register_search_attributes(client: Client) -> bool:
    """Return whether the namespace has Longtake's search attributes, adding those it lacks where that is allowed."""
    try:
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=client.namespace)
        )
        lacking = {
            key.name: IndexedValueType.ValueType(key.indexed_value_type)
            for key in SEARCH_ATTRIBUTES
            if key.name not in listed.custom_attributes
        }
        if lacking:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=client.namespace, search_attributes=lacking)
            )
    except RPCError as error:
        _log.warning(
            "jobs will not show in lists by state: search attributes %s cannot be registered (%s)",
            ", ".join(key.name for key in SEARCH_ATTRIBUTES),
            error.message,
        )
        return False
    return True
