;; P18. Asks for models, which only those get that are granted some.
;;; asks
sluice:plugin/inference@0.1.0
