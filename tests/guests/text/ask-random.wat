;; P18. Asks for random numbers, which no strict configuration gives.
;;; asks
wasi:random/random@0.2.0
