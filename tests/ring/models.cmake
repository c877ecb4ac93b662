# Checks the models in ring/models/ with spin: every variant that the code may be in holds, and every mistake that a
# model knows is found, which is what shows that the model would notice it. Each search is exhaustive.
find_program(SPIN spin)
if(NOT SPIN)
  message(FATAL_ERROR "spin is missing, which checks the models in ring/models: scripts/setup installs it")
endif()

# ring_model(model variant holds|fails|ends|cycles DEFINES...). holds: no interleaving breaks an assertion or ends stuck.
# fails: some interleaving does. ends: no run goes on for ever. cycles: some run does.
function(ring_model model variant expected)
  set(name ring_model.${model}.${variant})
  add_test(NAME ${name}
           COMMAND ${CMAKE_COMMAND} -DSPIN=${SPIN} -DCOMPILER=${CMAKE_C_COMPILER}
                   -DMODEL=${PROJECT_SOURCE_DIR}/ring/models/${model}.pml -DEXPECTED=${expected} "-DDEFINES=${ARGN}"
                   -DFOLDER=${CMAKE_CURRENT_BINARY_DIR}/models/${model}.${variant}
                   -P ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/check_model.cmake)
  set_tests_properties(${name} PROPERTIES LABELS unit TIMEOUT 300)
endfunction()

ring_model(park fences holds WAKER_MFENCE SLEEPER_MFENCE)
ring_model(park fences_end ends WAKER_MFENCE SLEEPER_MFENCE)
ring_model(park membarrier holds SLEEPER_MEMBARRIER)
ring_model(park membarrier_and_fences holds WAKER_MFENCE SLEEPER_MEMBARRIER)
ring_model(park no_fence fails)
ring_model(park no_fence_of_the_sleeper fails WAKER_MFENCE)
ring_model(park no_fence_of_the_waker fails SLEEPER_MFENCE)
ring_model(park membarrier_without_registration fails SLEEPER_MEMBARRIER UNREGISTERED)
ring_model(park flag_instead_of_count fails WAKER_MFENCE SLEEPER_MFENCE FLAG_NOT_COUNT)
ring_model(park doorbell_read_late fails WAKER_MFENCE SLEEPER_MFENCE BELL_READ_LATE)
ring_model(park same_announcement fails WAKER_MFENCE SLEEPER_MFENCE SAME_ANNOUNCEMENT)

ring_model(handover guests_die holds)
ring_model(handover guests_die_end ends)
ring_model(handover device_restarts holds DEVICE_KILLS=1 GUEST_KILLS=0)
ring_model(handover locks_unseen holds UNSEEN_LOCKS)
ring_model(handover dead_are_released holds UNSEEN_LOCKS REAPER)
ring_model(handover release_without_lock fails UNSEEN_LOCKS REAPER REAP_WITHOUT_LOCK)
ring_model(handover idle_without_nonce fails IDLE_WITHOUT_NONCE)
ring_model(handover stale_probe fails STALE_PROBE)
ring_model(handover late_clear cycles LATE_CLEAR)
ring_model(handover no_discard_between fails NO_DISCARD_BETWEEN)
ring_model(handover unlock_before_exit fails UNLOCK_BEFORE_EXIT)
ring_model(handover no_generation fails NO_GENERATION DEVICE_KILLS=1 GUEST_KILLS=0)
ring_model(handover no_reset fails NO_RESET)
ring_model(handover one_nonce_look fails ONE_NONCE_LOOK)

ring_model(ring ordered holds)
ring_model(ring write_combining holds WRITE_COMBINING)
ring_model(ring no_clear fails NO_CLEAR)
ring_model(ring no_free_slot fails NO_FREE_SLOT)
ring_model(ring consumed_early fails CONSUMED_EARLY)
ring_model(ring relaxed_commit fails RELAXED_COMMIT)
ring_model(ring no_store_fence fails WRITE_COMBINING NO_STORE_FENCE)
