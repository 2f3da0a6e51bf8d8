"""The files for Kubernetes: accepted by its schemas, with commands that ours takes."""

import importlib.util
from pathlib import Path

import pytest
import yaml

from ppliteseg_paddle.cli import main as cli

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "kubernetes"
needs_schemas = pytest.mark.skipif(
    importlib.util.find_spec("kubernetes_validate") is None, reason="kubernetes-validate is not installed: '.[dev]'"
)


def documents(name):
    return {values["kind"]: values for values in yaml.safe_load_all((FOLDER / name).read_text())}


@needs_schemas
@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.iterdir()))
def test_the_schemas_accept_each_document_and_nothing_misspelled(name):
    import kubernetes_validate

    for values in documents(name).values():
        kubernetes_validate.validate(values, kubernetes_validate.latest_version(), strict=True)
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(
                {**values, "spec": {**values["spec"], "misspelled": 1}},
                kubernetes_validate.latest_version(),
                strict=True,
            )


def container(workload):
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return found


def test_the_machines_of_a_training_find_each_other_and_resume():
    service, job = (documents("train.yml")[kind] for kind in ("Service", "Job"))
    pod, names = job["spec"]["template"], job["metadata"]["name"]
    for index in range(job["spec"]["completions"]):
        words = [word.replace("$(JOB_COMPLETION_INDEX)", str(index)) for word in container(job)["args"]]
        args = cli.parse("train", words)
        assert (args.node_rank, args.log_dir) == (index, f"{args.save_dir}/log/{index}")
        assert int(args.nnodes) == job["spec"]["completions"] == job["spec"]["parallelism"]
        assert args.master.split(":")[0] == f"{names}-0.{service['metadata']['name']}"  # Kubernetes' name of the first
        assert (args.resume_model, args.max_restart > 0) == ("auto", True)
        assert container(job)["resources"]["limits"]["nvidia.com/gpu"] == str(args.nproc_per_node)
    assert job["spec"]["completionMode"] == "Indexed" and service["spec"]["clusterIP"] == "None"
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()


def test_what_is_served_is_where_the_service_and_the_probes_look():
    service, deployment = (documents("serve.yml")[kind] for kind in ("Service", "Deployment"))
    serving, pod = container(deployment), deployment["spec"]["template"]
    args = cli.parse("serve", serving["args"])
    assert args.host == "0.0.0.0"  # noqa: S104 - inside a cluster
    assert serving["ports"] == [{"name": "http", "containerPort": args.port}]
    assert service["spec"]["ports"][0]["targetPort"] == "http"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert serving[probe]["httpGet"] == {"path": "/health", "port": "http"}
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert str(args.num_threads) == serving["resources"]["requests"]["cpu"]
