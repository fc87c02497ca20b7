"""IGRIS_C, a humanoid of 31 motors, over DDS. See docs/igris_c.md before a real one moves."""

from rt.robots.robot import Backend

BACKENDS = {
    "dds": Backend(
        robot="rt.robots.igris_c.robot:IgrisC",
        check="rt.robots.igris_c.options:check",
        extra="dds",
        packages=("cyclonedds",),
    ),
}
