"""What a training says of itself before its first step: files, and lines for the user."""

from typing import Any

from kft import backend, batches, models, runs
from kft.data.splits.notices import notices
from kft.progress import note
from kft.runs import RunDir
from kft.tasks import scoring
from kft.text import save_tokenizer, tokenizer_entry
from kft.train import controls
from kft.train.preparing import Data, Prepared


def write_inputs(run: RunDir, prepared: Prepared) -> None:
    """Writes what must be on disk before the first step.

    It is the data account, labels, vocabulary, model.json and the held-out splits.
    """
    data, architecture = prepared.data, prepared.model.architecture
    runs.write_json(run.data, data.splits.account)
    runs.write_json(run.labels, {"labels": data.labels})
    save_tokenizer(data.preset.tokenizer, run)
    content = {
        **models.model_fields(architecture),
        "tokenizer": tokenizer_entry(data.preset.tokenizer),
        "preset": data.preset.name,
        "drawn_anew": list(prepared.model.drawn),
        **_origin(data, architecture),
    }
    runs.write_model(run, content, data.inputs, data.learned)
    for name in ("validation", "test"):
        frame = getattr(data.splits, name)
        if len(frame):
            runs.write_whole(run.split(name), frame.write_parquet)


def _origin(data: Data, architecture: models.Architecture) -> dict[str, Any]:
    """What model.json says of the run that this one starts from."""
    if data.preset.kind != "run":
        return {}
    start = RunDir(data.preset.path)
    kept = models.keeps_head(data.preset, data.labels, architecture)
    sha256 = runs.file_sha256(start.weights)
    return {"from_run": {"path": str(start.path), "weights_sha256": sha256, "head_kept": kept}}


def describe(prepared: Prepared) -> None:
    """Tells the user the sizes of data, batches and model."""
    config, data, plan, model = prepared.config, prepared.data, prepared.plan, prepared.model
    account = data.splits.account["splits"]
    counts = ", ".join(f"{name} {part['examples']:,}" for name, part in account.items())
    note(f"data      {counts}" + (f"; {len(data.labels)} labels" if data.labels else ""))
    for title, line in notices(data.splits.account, config.model.max_length):
        note(f"{title:<9} {line}")
    if data.inputs.stride is not None:
        windows = ", ".join(
            f"{name} {part['tokens']['windows']:,}" for name, part in account.items() if "tokens" in part
        )
        note(f"windows   {windows}, which share {data.inputs.stride} tokens")
    filling = plan_account(plan, config.model.max_length)
    note(
        f"batches   {plan.steps} {'step' if plan.steps == 1 else 'steps'} an epoch of {plan.batch_size} {plan.unit} "
        f"in {plan.packed_rows} × {plan.length} tokens, "
        f"{filling['filled']:.1%} filled (padding to {config.model.max_length} would fill {filling['filled_if_padded']:.1%})"
    )
    count = models.parameter_counts(model)
    note(
        f"model     {config.model.from_run or config.model.preset}, {count['total']:,} weights, "
        f"{count['trainable']:,} trained, on {backend.select()}"
    )
    if model.drawn:
        note(f"head      drawn anew: {', '.join(model.drawn)}; the checkpoint has none that fits")
    updates = plan.steps * config.train.epochs
    if config.train.ema_momentum is not None and (kept := config.train.ema_momentum**updates) > 0.1:
        note(
            f"average   after {updates:,} updates the averaged weights are still {kept:.0%} the first ones; a smaller "
            "train.ema_momentum forgets them sooner"
        )
    positive = scoring.positive_label(data.labels, data.learned.positive)
    if positive and "f1" in scoring.names(config.task):
        how = f"; data.positive names the other, {data.labels[0]}" if config.data.positive is None else ""
        if config.data.positive not in (None, positive):
            how = f", as data.label_names renames {config.data.positive}"
        note(f"positive  precision, recall and f1 are those of {positive}{how}")
    if config.train.unfreeze_every_epochs is not None:
        waits = [config.train.unfreeze_every_epochs * n for n in range(len(controls.layer_groups(model)))]
        never = sum(wait >= config.train.epochs for wait in waits)
        ends = (
            f"the lowest {never} (embeddings included) never" if never else f"all after {waits[-1]:g} epochs"
        )
        note(f"unfreeze  the head first, a layer more every {waits[1]:g} epochs; {ends}")


def plan_account(plan: batches.Plan, max_length: int) -> dict[str, Any]:
    """What `dry_run` returns under "batches"."""
    padded = plan.lengths.sum() / (len(plan.lengths) * max_length)
    return {
        "steps": plan.steps,
        plan.unit: plan.batch_size,
        "rows": plan.packed_rows,
        "length": plan.length,
        "reads": plan.reads,
        "filled": plan.filled,
        "filled_if_padded": float(padded),
    }
