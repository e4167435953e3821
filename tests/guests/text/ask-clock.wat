;; P18. Asks for the time of day, which no strict configuration gives.
;;; asks
wasi:clocks/wall-clock@0.2.0
