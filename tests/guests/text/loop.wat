;; P9, P25. Never returns.
;;; handle
(loop $again (br $again)) (unreachable)
