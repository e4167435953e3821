;; P7. Crashes in its start.
;;; fields
(func $start (unreachable))
(start $start)
;;; handle
(unreachable)
