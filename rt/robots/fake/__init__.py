"""A robot to talk to: `python -m rt.robots.fake` plays a real robot on DDS (docs/fake_robot.md)."""
