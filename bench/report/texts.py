"""What the report says of each suite and of each family of results, and in which order it tells them."""

SUITES = {
    "ring_bench": "The ring, across processes",
    "transport_bench": "The transport, through the CUDA API",
    "kernel_bench": "Kernels on the software device",
    "model_load": "Loading a model",
    "llama_bench": "Models on the software device",
}

# (suite, name): title, and what the reader should know of it.
TEXTS = {
    ("ring_bench", "round_trip"): (
        "Round trip between two processes",
        "A record there and an answer back, on one shared mapping and one pair of cores. Means of 64 successive ones "
        "are free of the clock's cost, and are what the ratios are taken of; where each is timed by itself the clock "
        "is in every sample, and the tails show. The bare cache line is the machine's own limit: one word to and fro "
        "between the two. The index queue is the textbook queue with cached indices, the scheme of rigtorp's "
        "SPSCQueue.",
    ),
    ("ring_bench", "stream"): (
        "One way, nobody waits",
        "Time per record in a stream, as the receiver sees it. In batches: several records are published at once.",
    ),
    ("ring_bench", "submit"): ("What sending costs the sender", "While the receiver keeps up."),
    ("ring_bench", "wake_up"): (
        "Waking a sleeper",
        "From the call that wakes until the sleeper looks, beside a bare eventfd and a bare futex.",
    ),
    ("transport_bench", "launch_submit"): (
        "Submitting a kernel launch",
        "What the calling thread pays for a launch while the device, which executes nothing, keeps up. Each timed: "
        "every call by itself, with the clock's own 10 to 30 ns in it. In bursts: 16 calls together, per call.",
    ),
    ("transport_bench", "ring_submit"): (
        "Submitting a record to the ring alone",
        "What a launch would cost if it were nothing but its record.",
    ),
    ("transport_bench", "launch_sustained"): ("Launches a second, sustained", ""),
    ("transport_bench", "synchronous_call"): (
        "Synchronous calls",
        "There and back through the CUDA API while both sides spin. The bare cache line is one word passed to and fro "
        "between the same two cores.",
    ),
    ("transport_bench", "event"): ("Events", ""),
    ("transport_bench", "memory"): ("Allocating and freeing device memory", ""),
    ("transport_bench", "memset"): ("Setting memory", ""),
    ("transport_bench", "copy_submit"): ("Submitting a small copy", "It rides inside the record."),
    ("transport_bench", "copy"): (
        "Copies",
        "From the call until the bytes are where they belong, beside memcpy of the same size, taken in turn.",
    ),
    ("transport_bench", "processes"): (
        "Several client processes at once",
        "On a device with the options that users get.",
    ),
    ("transport_bench", "threads"): ("Several threads of one client", ""),
    ("transport_bench", "device_wake_up"): (
        "Waking a parked device",
        "From before a launch until it has executed, the device having slept; beside the same with a bare eventfd and "
        "a bare futex.",
    ),
    ("transport_bench", "client_wake_up"): (
        "Waking a parked client",
        "From the end of the work that it waits for until it runs again.",
    ),
    ("transport_bench", "idle_cpu"): ("CPU time of an idle system", "All processes of the device and one client."),
    ("model_load", "model_load"): (
        "The demo's client loads its model",
        "The loading call alone, as the client times it, on a device that is warm and has loaded the model before. "
        "Beside it: the file from the page cache into memory, and one memcpy.",
    ),
    ("llama_bench", "generation"): (
        "Generation",
        "Tokens a second behind a short prompt. The clients stay loaded and generate in turn, on a warm cache, with as "
        "many threads each as there are processors. The 1B llamas have random weights.",
    ),
    ("llama_bench", "token"): ("One token", "Of the same runs; the goals are about the medians."),
    ("llama_bench", "prefill"): ("Prefill", "From a prompt of 512 tokens to the first of the answer."),
    ("llama_bench", "kernels_at_best"): (
        "Kernels with and without confinement",
        "What the kernels of a round would take if every launch were as quick as the quickest of its kernel.",
    ),
    ("llama_bench", "start"): (
        "Start of the demo",
        "From the command until the second token, by which every kernel has been compiled or found in the cache.",
    ),
    ("kernel_bench", "empty_kernel"): (
        "An empty kernel",
        "From the launch until it has run. Submit: what the launch alone costs the caller.",
    ),
    ("kernel_bench", "saxpy"): ("saxpy", "Beside the same as a plain C++ loop, as is every load below."),
    ("kernel_bench", "reduction"): ("A reduction", ""),
    ("kernel_bench", "mul_mat_vec_q4"): ("A vector times a matrix of 4-bit weights", ""),
    ("kernel_bench", "attention"): ("Attention", ""),
}

# Names that are told with another's, and how their figures are told from those.
JOINED = {
    ("ring_bench", "round_trip_mean"): ("round_trip", "means of 64"),
    ("ring_bench", "submit_mean"): ("submit", "means of 32"),
}
