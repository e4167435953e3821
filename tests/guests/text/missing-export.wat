;; P2. Says that it is a pipeline plugin, and has no `handle`.
;;; component
(component
    (core module $module (func (export "f")))
    (core instance $made (instantiate $module))
    (func $handle (canon lift (core func $made "f")))
    (instance $handler (export "other" (func $handle)))
    (export "sluice:plugin/handler@0.1.0" (instance $handler)))
