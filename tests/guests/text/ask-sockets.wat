;; P2, P18. Asks for sockets, which nobody gets.
;;; asks
wasi:sockets/tcp@0.2.0
