"""The control process: one tick at a time. Imports neither torch, cv2 nor rclpy."""
