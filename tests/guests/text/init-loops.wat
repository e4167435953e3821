;; P7. Never ends `init`.
;;; init
(loop $again (br $again)) (unreachable)
