"""What a client is told of the recipes that it can choose from: what each costs, and how soon it shows something."""

from __future__ import annotations

from statistics import median_low

from cluster.frontend.responses import recipe_message
from longtake.core.cell import Cell
from longtake.core.recipe.table import NamedRecipe, Quality
from longtake.core.work import Role
from longtake.v1 import longtake_pb2 as pb


def named_recipe(named: NamedRecipe, cell: Cell, *, most_given: int) -> pb.NamedRecipe:
    """A recipe that a cell serves, as the protocol shows it, by the times of the workers that are there now.

    By it a stream may begin with `most_given` pictures.
    """
    graph = cell.graphs[named.name]
    geometry = cell.geometry.divided(graph.blocks)
    return pb.NamedRecipe(
        name=named.name,
        recipe=recipe_message(named.recipe),
        relative_cost=cell.fleet.relative_cost(graph, geometry),
        latency_s=_latency_s(named, cell),
        help=named.help,
        proven=named.quality is Quality.PROVEN,
        first_block_pictures=geometry.pictures(0),
        block_pictures=geometry.pictures(1),
        max_given_pictures=most_given,
    )


def _latency_s(named: NamedRecipe, cell: Cell) -> float:
    """Seconds from the beginning of a block to its segment where nothing else waits; 0 if that is not known yet."""
    graph = cell.graphs[named.name]
    forward, decode = cell.fleet.op_costs(graph)
    denoise_s, decode_s = _passage_s(cell, Role.DENOISE), _passage_s(cell, Role.DECODE)
    return graph.recipe.usual_count * forward * denoise_s + decode * decode_s if denoise_s and decode_s else 0.0


def _passage_s(cell: Cell, role: Role) -> float:
    """The usual time of one op alone on a worker of this role; 0 if it is not known."""
    workers = [worker for worker in cell.workers.values() if worker.role is role]
    times_s = [(each.joined.ability.forward_s or each.timing.op_s) * each.chain_length for each in workers]
    known_s = [time_s for time_s in times_s if time_s]
    return median_low(known_s) if known_s else 0.0
