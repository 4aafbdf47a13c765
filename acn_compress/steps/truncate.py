"""truncate: cut blocks off, physically. A prefix is exact, and it is checked; other blocks are led
to make up for those that went."""

from __future__ import annotations

from acn_compress.checkpoint.directory import check_out
from acn_compress.checkpoint.find import find_source
from acn_compress.checkpoint.load import load_source
from acn_compress.checkpoint.source import Source
from acn_compress.checkpoint.write import write
from acn_compress.compression.blocks import best
from acn_compress.compression.depth import choose, measured, stored, truncate_checked_
from acn_compress.compression.refit import EXAMPLES, refit_
from acn_compress.data.load import Columns, Data, load_data
from acn_compress.events import Progress
from acn_compress.measure.original import Original, held_to
from acn_compress.measure.quality import change, measure
from acn_compress.network.device import find_device
from acn_compress.network.network import Network
from acn_compress.options import ModelSpec, PathSpec, Truncate
from acn_compress.reports.made import Truncated

SOLVED = {
    "first": "The last block's output layers were solved on {} to follow the whole network; "
    "nothing was trained.",
    "best": "The blocks' output layers were solved on {} to follow the whole network; nothing was "
    "trained.",
}
BASELINE = (
    "Residual form: this is the plain baseline (drop the last blocks); fine-tune it to recover."
)


def run(
    src: ModelSpec, out: PathSpec, how: Truncate, progress: Progress | None = None
) -> Truncated:
    """Keep the first blocks: so many, or as few as cost at most max_drop; or the best."""
    source = find_source(src, config=how.config)
    check_out(out, source=source, overwrite=how.overwrite)
    net = load_source(source, device=find_device(how.device))
    structure, parameters, columns = net.structure, net.parameters, Columns.of(how)

    def read(other: Network, place: Source) -> Data | None:
        if how.data is None:
            return None
        return load_data(
            how.data,
            other,
            place,
            role="eval",
            columns=columns,
            limit=how.limit,
            max_length=how.max_length,
        )

    data = read(net, source)
    before = data and measure(net, data, batch_size=how.batch_size)
    original = None
    if data and before:
        original = Original.of(
            source,
            data,
            read,
            known=source,
            scores=before,
            net=net,
            batch_size=how.batch_size,
        )
    depth, why, known = how.depth, "asked for", None
    if how.max_drop is not None:
        if data and before:
            than = held_to(original, how.against, before, source, data)
            found = measured(net, data, than, batch_size=how.batch_size, seed=how.seed)
        else:
            found = known = stored(source, how.profile)
        chosen = choose(found, how.max_drop, how.bound, source.name, how.against)
        depth, why = chosen.depth, chosen.why
    assert depth is not None  # the options were checked
    net.check_depth(depth, source.name)
    whole = net.twin()
    cut = depth < len(structure.blocks)
    note = BASELINE if cut and structure.form == "residual" else None
    few = how.refit_data and load_data(
        how.refit_data,
        net,
        source,
        role="train",
        columns=columns,
        limit=EXAMPLES,
        max_length=how.max_length,
    )
    if few and how.keep == "best":
        net.keep_(best(net, depth, few).blocks)
        why = f"{why}; those went that the others make up for best"
    else:
        truncate_checked_(net, depth)
    if few:
        refit_(net, whole, few)
        note = SOLVED[how.keep].format(few.name)
    report: dict[str, object] = {
        "depth": depth,
        "of": len(structure.blocks),
        "form": structure.form,
        "why": why,
        "note": note,
        "parameters_before": parameters,
    }
    if data and before:
        after = measure(net, data, batch_size=how.batch_size)
        below = None if original is None else original.below(after)
        report |= {"data": data.name, "read": data.read, "original": below}
        report |= dict(change(before, after, data.task))
    elif known and not few:  # a prefix is exact: what was measured of the depth is of this network
        report |= known.report(depth)
    return write(
        net,
        out,
        source=source,
        step=how.verb,
        options=how.plain(),
        report=report,
        seed=how.seed,
        overwrite=how.overwrite,
        kind=Truncated,
    )
