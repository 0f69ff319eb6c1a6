"""Read what botocore reads from its own data files for a process's first S3 client: 0.1 s of CPU time for each fork."""

from longtake.stores.s3 import make_core_session

_loader = make_core_session().get_component("data_loader")
_loader.load_service_model("s3", "service-2")
_loader.load_service_model("s3", "endpoint-rule-set-1")
for _name in ("endpoints", "partitions", "sdk-default-configuration"):
    _loader.load_data(_name)
