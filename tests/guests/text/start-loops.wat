;; P7. Never ends its start.
;;; fields
(func $start (loop $again (br $again)))
(start $start)
;;; handle
(unreachable)
