;; P10. Gives up.
;;; handle
(unreachable)
