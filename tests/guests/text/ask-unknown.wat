;; P2. Asks for something that no gateway knows.
;;; asks
evil:net/sockets@1.0.0
