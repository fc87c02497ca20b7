"""The simulator's process: steps the world in real time, paints its cameras, owns their rings."""

from __future__ import annotations

import sys
from signal import SIGKILL

from rt import child, clock
from rt.child import Status
from rt.clock import Ticks
from rt.robots.sim.views import Views
from rt.robots.sim.world import World
from rt.session import Session

STEP_NS = 5_000_000  # 200 Hz: finer than any policy row, coarse enough for Python
FRAME_STEPS = 7  # a frame every 35 ms, as a 30 fps camera would give
LONGEST_STEP_S = 0.05  # after a stall the world goes on from where it was, not where it would be


def run(session: Session, status: Status) -> None:
    """Step, publish the state, paint; until killed."""
    config = session.config()
    world = World(seed=config.run.sim_seed)
    views = Views(session, config.params.camera_names, config.params.mono_image_resize)
    states, commands = session.writer("sim.state"), session.reader("sim.command")
    state, command = states.buffer(), commands.buffer()
    target = world.position.copy()

    ticks = Ticks(epoch_ns=clock.now_ns(), period_ns=STEP_NS)
    step, last = 0, ticks.epoch_ns
    status.write("running")
    while True:
        step = max(step + 1, ticks.at(clock.now_ns()))
        clock.sleep_until(ticks.due(step))
        now = clock.now_ns()
        if commands.read_latest(command) is not None:
            target[:] = command["position"]
            if int(command["scene"]) > int(state["scene"]):
                world.new_scene()
                state["scene"] = command["scene"]
        world.step(target, min((now - last) / 1e9, LONGEST_STEP_S))
        last = now

        state["t_capture"] = now
        state["position"] = world.position
        state["reached"] = world.reached
        states.write(state)
        if step % FRAME_STEPS == 0:
            views.paint(world, now)
            status.beat()


if __name__ == "__main__":
    sys.exit(child.start(run, on_orphaned=SIGKILL))
