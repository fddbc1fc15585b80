# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_latrod_global_optspecs
    string join \n h/help V/version
end

function __fish_latrod_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_latrod_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_latrod_using_subcommand
    set -l cmd (__fish_latrod_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c latrod -n "__fish_latrod_needs_command" -s h -l help -d 'Print help'
complete -c latrod -n "__fish_latrod_needs_command" -s V -l version -d 'Print version'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "demo" -d 'Show the whole system on this machine: a device that learns, a broker, and the fleet\'s page'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "train" -d 'Learn a LoRA adapter from questions and answers'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "eval" -d 'Measure accuracy and answer likelihood on held-out questions, with and without an adapter'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "ask" -d 'Ask a model one question: streams its rationale, then "The answer is …"'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "command" -d 'Give a device a signed command over MQTT'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "dashboard" -d 'Follow the devices of a fleet over MQTT and show them on a page'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "simulate" -d 'Simulate devices that report over MQTT, to try a dashboard or a broker'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "inspect" -d 'Show what is in a GGUF model, whether it can be trained, and the memory that would take'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "export" -d 'Write an adapter for PEFT or for llama.cpp'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "plot" -d 'Draw the learning curves of training runs: held-out accuracy, log p(answer), reward, length of rationales and share of guesses, over training time or what else is asked for'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "run" -d 'Learn while the device is idle, and tell the fleet'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "status" -d 'Show what the running daemon is doing, and why'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "validate" -d 'Check a configuration file and say what it means'
complete -c latrod -n "__fish_latrod_needs_command" -f -a "debug" -d 'Raw numbers, in the file formats of the PyTorch and llama.cpp references'
complete -c latrod -n "__fish_latrod_using_subcommand demo" -l devices -d 'Made-up devices beside the one that learns' -r
complete -c latrod -n "__fish_latrod_using_subcommand demo" -l model -d 'A GGUF model to learn with, instead of the built-in tiny one' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand demo" -l tasks -d 'Task files to learn from, instead of sums: a file, or a folder of *.jsonl, *.json and *.csv files' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand demo" -l listen -d 'Address and port of the page; port 0 is any that is free' -r
complete -c latrod -n "__fish_latrod_using_subcommand demo" -s h -l help -d 'Print help'
complete -c latrod -n "__fish_latrod_using_subcommand train" -l model -d 'The GGUF model' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand train" -l tasks -d 'Tasks to learn from: a JSON lines file or a folder of them' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand train" -l adapter -d 'The folder of the adapter; goes on with the run that it holds' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand train" -l start-from -d 'The folder of an adapter to begin with, instead of a fresh one; it stays as it is' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand train" -l eval-tasks -d 'Tasks to measure progress on, instead of a tenth of --tasks' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand train" -l held-out -d 'Share of the tasks that is held out if --eval-tasks is not given' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l eval-every -d 'Steps between evaluations; 0 evaluates at the start and at the end only' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l eval-questions -d 'Held-out questions to ask in an evaluation, at most; 0 leaves evaluation out' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l keep -d 'Which adapter the run ends with: the best of those that were evaluated, or the last' -r -f -a "best\t'The one that did best on held-out questions, of those that were evaluated'
last\t'That of the last step'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l max-minutes -d 'Minutes of training, over all restarts, after which to stop even if steps are left' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l preset -d 'Where the other settings start from' -r -f -a "edge\t'Rewards that cannot collapse, and guards that an unattended device needs'
paper\t'The algorithm of the paper: K 16, 500 tokens, no clipping, nothing skipped'
released\t'What the authors\' program does where it differs from the paper'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l method -d 'What to learn from [default: latro]' -r -f -a "latro\t'Sampled rationales, rewarded by the likelihood of the right answer'
sft\t'The right answer alone, without a rationale, supervised'
sft_rationale\t'The worked rationales that tasks come with, as in GSM8K, and their answers, supervised'
auto\t'latro if the model, before it learns, finds the right answers likelier after thinking than at once; else sft'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -s k -l num-generations -d 'Rationales sampled for each prompt, at least 2: each is compared with the others [default: 8; paper: 16]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l prompts-per-step -d 'Prompts whose gradients make one step [default: 12; paper: 2]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l task-order -d 'In which order tasks come up [default: success; paper: shuffled]' -r -f -a "shuffled\t'All of them once, in random order, before any comes up again'
success\t'At random, those more often that the model sometimes gets right and sometimes not'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l teaching-prompts -d 'Prompts of a step that should not be flat: where more are, others are asked as well, up to three times prompts_per_step in all (DAPO\'s dynamic sampling, arXiv 2503.14476). 0: no others are [default: 4; paper: 0]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l max-new-tokens -d 'Longest rationale, in tokens [default: 400; paper: 500]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l system-prompt -d 'A system message before the question. Empty: what the model\'s template says without one [default: ]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l prompt-prefix -d 'What stands before a question, in the same message [default: ]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l prompt-suffix -d 'What follows a question, in the same message [default: ; paper:  Let\'s think step by step.]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l temperature -d 'Temperature of sampling [default: 0.7; paper: 1]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l beta -d 'Weight of the KL term in the reward (β of eq. 4), in units of reward per nat [default: 0; paper: 0.05]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l likelihood-weight -d 'Weight of the gradient of the answer\'s own likelihood (w; 1 in eq. 5) [default: 1]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l answer-kind -d 'What kind of text answers are, and so how they are compared [default: auto]' -r -f -a "auto\t'What the wanted answer is: a number if all of it is one, a choice if the question lists it as an option, else a text'
number\t'A number, by value: 18, $18.00 and 1.8e1 are the same'
choice\t'One of the options in the question, by its label or its text'
text\t'Words: case, quotes, articles and punctuation around them make no difference'
exact\t'Every character counts'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l seam -d 'Where a rationale ends and what follows it [default: policy; paper: phrase]' -r -f -a "phrase\t'It ends with the turn or before "the answer is"; our own "The answer is …" follows, whatever the model would have said. As in the paper'
policy\t'The model announces the answer in its own way; only the answer and what closes it are put in place of the model\'s. A rationale that announces nothing earns nothing'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l answer-marks -d 'What announces an answer, with seam policy' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l reward -d 'How the answer\'s likelihood becomes a reward [default: prob; paper: log_prob]' -r -f -a "log_prob\t'The sum of the tokens\' log-probabilities (LaTRO, eq. 4)'
mean_log_prob\t'Their mean, so that long answers don\'t outweigh short ones'
mean_prob\t'The mean of the tokens\' probabilities (RLPR, arXiv 2506.18254): between 0 and 1, so that one very unlikely token doesn\'t drown out the others. For long answers'
prob\t'Their product, the probability of the answer (VeriFree, arXiv 2505.21493): between 0 and 1. For short answers'
jepo\t'The share of a rationale in the log of the group\'s mean probability (JEPO, arXiv 2503.19618)'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l guess-weight -d 'How many times the reward of a guess, made without a rationale, is taken off every reward, which then is 0 at least. 0: nothing is [default: 1.1; paper: 0]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l reward-span -d 'Which tokens the reward and its gradient look at [default: full]' -r -f -a "full\t'The answer phrase, the answer and the end of the turn'
answer\t'The answer\'s own tokens'
released\t'full and the rationale\'s last token, as in the authors\' code'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l truncation -d 'How rationales that ran out of tokens are judged [default: zero; paper: keep]' -r -f -a "keep\t'Like any other, as in the paper'
never_pays\t'Its advantage is at most 0, so that being cut off is never encouraged'
zero\t'Its likelihood counts as 0, which is the worst there is where likelihoods are probabilities'
double_mean\t'Its likelihood is twice the mean of its group, as in the authors\' code: worse than most, where likelihoods are logarithms'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l min-rationale-tokens -d 'Judge shorter rationales, in tokens, like those that ran out of tokens. 0: no limit [default: 0]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l stop-repeating -d 'End rationales that repeat the same text over and over, and judge them like those that ran out of tokens [default: true; paper: false]' -r -f -a "true\t''
false\t''"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l adapt-length -d 'Cut rationales off at one and a half times the longest that has lately earned something, where that is less than max_new_tokens [default: true; paper: false]' -r -f -a "true\t''
false\t''"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l stop-counts -d 'Count the token that ended a rationale in its probability [default: true; paper: false]' -r -f -a "true\t''
false\t''"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l collapse-tokens -d 'Mean rationale length, in tokens, below which the sentinel reports a collapse. 0: never [default: 2]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l skip-flat -d 'Skip prompts whose rewards hardly differ from one rationale to the next [default: true; paper: false]' -r -f -a "true\t''
false\t''"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l flat-share -d 'A prompt is flat if its rewards\' standard deviation is below this share of the moving average [default: 0.25]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l flat-spread -d 'A prompt is flat as well if its rewards\' standard deviation is below this [default: 0.01]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l update-generations -d 'Learn from so many rationales of a prompt only, those whose rewards differ the most. 0: all [default: 4; paper: 0]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l warm-start-steps -d 'First steps that learn from one right rationale of each question, supervised, instead of comparing rationales. 0: none [default: 0]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l warm-start -d 'Which rationale these first steps learn from [default: worked]' -r -f -a "worked\t'The worked rationales that tasks come with, as in GSM8K; own where they have none'
own\t'The shortest right one that the model has sampled (expert iteration)'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l scale-rewards -d 'Divide advantages by the standard deviation of their group [default: false]' -r -f -a "true\t''
false\t''"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l rank -d 'Rank of the LoRA update [default: 16]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l alpha -d 'LoRA\'s α: the update is scaled by α / rank [default: 32]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l target-modules -d 'Layers to adapt, by PEFT\'s names, for example q_proj,v_proj' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l learning-rate -d 'Peak learning rate [default: 1e-4; paper: 1e-5]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l warmup-steps -d 'Steps over which the learning rate rises to its peak; a shorter run never gets there [default: 5; paper: 0]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l steps -d 'Training steps of the whole run, or of a cycle of the daemon [default: 200]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l lr-scheduler -d 'What the learning rate does after the warm-up [default: linear]' -r -f -a "linear\t'Falls in a straight line to 0 at the end of the run'
cosine\t'Falls along half a cosine to 0 at the end of the run'
constant\t'Stays'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l weight-decay -d 'AdamW\'s weight decay [default: 0]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l adam-beta1 -d 'AdamW\'s β₁ [default: 0.9]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l adam-beta2 -d 'AdamW\'s β₂ [default: 0.999]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l adam-epsilon -d 'AdamW\'s ε [default: 1e-8]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l max-grad-norm -d 'Largest norm of the gradient; a longer one is scaled down to it. 0: no limit, as in the paper [default: 1; paper: 0]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l seed -d 'Seed of everything random: adapter, order of tasks, sampling [default: 0]' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l compute -d 'exact: f32; fast: activations rounded to 8 bits' -r -f -a "exact\t'Weights decoded to f32, products in f32'
fast\t'Activations rounded to 8 bits per block of 32 where a kernel gains from it'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l device -d 'Where to compute; all but cpu only if the program was built with it (cross/CUDA.md)' -r -f -a "cpu\t'The processor, with this program\'s own kernels'
candle\t'The processor, with candle\'s operations: slow, to check what GPUs compute'
cuda\t'The first NVIDIA GPU'
metal\t'The GPU of a Mac'"
complete -c latrod -n "__fish_latrod_using_subcommand train" -l batch -d 'Rationales that are sampled together, at most' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l memory-limit -d 'The most memory to take, for example 600M or 2G: samples fewer rationales together and cuts rows into smaller pieces to keep to it' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l threads -d 'Threads to compute with; all cores if not given' -r
complete -c latrod -n "__fish_latrod_using_subcommand train" -l json -d 'Print the lines of metrics.jsonl instead of text'
complete -c latrod -n "__fish_latrod_using_subcommand train" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l model -d 'The GGUF model' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l tasks -d 'Questions and answers: a JSON lines file or a folder of them' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l adapter -d 'A PEFT adapter folder, compared with the untouched model' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l max-new-tokens -d 'Longest response, in tokens' -r
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l limit -d 'Ask the first N questions only' -r
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l votes -d 'Also sample K responses to each question and let their answers vote (maj@k)' -r
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l system-prompt -d 'A system message before the question' -r
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l prompt-prefix -d 'What stands before the question, in the same message' -r
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l prompt-suffix -d 'What follows the question, in the same message' -r
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l answer-kind -d 'What kind of text the answers are, and so how they are compared' -r -f -a "auto\t'What the wanted answer is: a number if all of it is one, a choice if the question lists it as an option, else a text'
number\t'A number, by value: 18, $18.00 and 1.8e1 are the same'
choice\t'One of the options in the question, by its label or its text'
text\t'Words: case, quotes, articles and punctuation around them make no difference'
exact\t'Every character counts'"
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l batch -d 'Responses that are sampled together, at most: more is faster and takes more memory. The K votes on one question are always sampled together' -r
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l seed -d 'Seed of the votes' -r
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l compute -d 'exact: f32; fast: activations rounded to 8 bits' -r -f -a "exact\t'Weights decoded to f32, products in f32'
fast\t'Activations rounded to 8 bits per block of 32 where a kernel gains from it'"
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l device -d 'Where to compute; all but cpu only if the program was built with it (cross/CUDA.md)' -r -f -a "cpu\t'The processor, with this program\'s own kernels'
candle\t'The processor, with candle\'s operations: slow, to check what GPUs compute'
cuda\t'The first NVIDIA GPU'
metal\t'The GPU of a Mac'"
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l threads -d 'Threads to compute with; all cores if not given' -r
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l details -d 'Write every question with the answers it got, one JSON line each' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l no-baseline -d 'With --adapter: leave the untouched model out, in half the time'
complete -c latrod -n "__fish_latrod_using_subcommand eval" -l json -d 'Print one JSON object instead of a table'
complete -c latrod -n "__fish_latrod_using_subcommand eval" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l model -d 'The GGUF model' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l adapter -d 'A PEFT adapter folder' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l max-new-tokens -d 'Longest rationale, in tokens' -r
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l temperature -d '0: always the likeliest token; 1: tokens as likely as the model finds them; up to 100' -r
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l seed -d 'Seed of the sampling, where the temperature is above 0' -r
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l system-prompt -d 'A system message before the question' -r
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l prompt-prefix -d 'What stands before the question, in the same message' -r
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l prompt-suffix -d 'What follows the question, in the same message' -r
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l compute -d 'exact: f32; fast: activations rounded to 8 bits' -r -f -a "exact\t'Weights decoded to f32, products in f32'
fast\t'Activations rounded to 8 bits per block of 32 where a kernel gains from it'"
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l device -d 'Where to compute; all but cpu only if the program was built with it (cross/CUDA.md)' -r -f -a "cpu\t'The processor, with this program\'s own kernels'
candle\t'The processor, with candle\'s operations: slow, to check what GPUs compute'
cuda\t'The first NVIDIA GPU'
metal\t'The GPU of a Mac'"
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l threads -d 'Threads to compute with; all cores if not given' -r
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l no-rationale -d 'Ask for the answer at once, without a rationale'
complete -c latrod -n "__fish_latrod_using_subcommand ask" -l json -d 'Print one JSON object at the end instead of the text as it comes'
complete -c latrod -n "__fish_latrod_using_subcommand ask" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c latrod -n "__fish_latrod_using_subcommand command" -l broker -d 'The broker: mqtt://host:port or mqtts://host:port' -r
complete -c latrod -n "__fish_latrod_using_subcommand command" -l fleet -d 'The device\'s fleet' -r
complete -c latrod -n "__fish_latrod_using_subcommand command" -l device -d 'The device' -r
complete -c latrod -n "__fish_latrod_using_subcommand command" -l key -d 'The operator\'s private key (Ed25519, PKCS #8 PEM), whose public key the device knows' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand command" -l wait -d 'How long to wait for the device\'s answer; 0 waits for the broker only' -r
complete -c latrod -n "__fish_latrod_using_subcommand command" -l valid -d 'How long the command stays valid' -r
complete -c latrod -n "__fish_latrod_using_subcommand command" -l username -d 'User name at the broker' -r
complete -c latrod -n "__fish_latrod_using_subcommand command" -l password-file -d 'File with the password' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand command" -l ca-file -d 'PEM file with the certificates to trust, instead of the system\'s' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand command" -l cert-file -d 'PEM file with a certificate to show to the broker' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand command" -l key-file -d 'PEM file with the certificate\'s private key' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand command" -l new-key -d 'Make a new key pair instead: FILE (private) and FILE.pub (for the devices\' configuration)' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand command" -l unsigned -d 'Send the command without a signature, for devices that allow it'
complete -c latrod -n "__fish_latrod_using_subcommand command" -l mqtt5 -d 'Speak MQTT 5 instead of 3.1.1'
complete -c latrod -n "__fish_latrod_using_subcommand command" -l json -d 'Print the device\'s answers as JSON, one per line'
complete -c latrod -n "__fish_latrod_using_subcommand command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c latrod -n "__fish_latrod_using_subcommand dashboard" -l config -d 'The configuration, a TOML file. Without one: all fleets of the broker on this machine, and the history in ~/.local/state/latrod-dashboard' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand dashboard" -l new-user -d 'Make a token for a user, and print it with the entry for the configuration' -r
complete -c latrod -n "__fish_latrod_using_subcommand dashboard" -l role -d 'What the new user may do' -r -f -a "viewer\t''
operator\t''"
complete -c latrod -n "__fish_latrod_using_subcommand dashboard" -l check -d 'Report what is wrong with the configuration, and end'
complete -c latrod -n "__fish_latrod_using_subcommand dashboard" -s h -l help -d 'Print help'
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l broker -d 'The broker: mqtt://host:port or mqtts://host:port' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l devices -d 'How many devices' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l fleet -d 'Their fleet' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l prefix -d 'How their names begin: NAME-00001, NAME-00002 …' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l seed -d 'What everything made up follows from' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l minutes -d 'Stop after this time; without it, on Ctrl-C' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l flaky -d 'Share of the devices that lose their connection now and then, from 0 to 1' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l skewed -d 'Share of the devices whose clock is off by hours' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l clones -d 'Share of the devices whose name a second process has, too' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l silent -d 'Share of the devices that stop speaking after a while but stay connected' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l commands -d 'Take commands that are signed with these public keys (PEM files, or 32 bytes in base64), or unsigned ones' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l state-every -d 'How often a device reports its state when nothing changes' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l speed -d 'How many times as fast as real devices they live' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l connects -d 'Devices that connect in a second, at most' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l report -d 'Write what is true of each device to this file (JSON) every few seconds and at the end' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l username -d 'User name at the broker' -r
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l password-file -d 'File with the password' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l ca-file -d 'PEM file with the certificates to trust, instead of the system\'s' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l cert-file -d 'PEM file with a certificate to show to the broker' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l key-file -d 'PEM file with the certificate\'s private key' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -l mqtt5 -d 'Speak MQTT 5 instead of 3.1.1'
complete -c latrod -n "__fish_latrod_using_subcommand simulate" -s h -l help -d 'Print help'
complete -c latrod -n "__fish_latrod_using_subcommand inspect" -s k -l num-generations -d 'Memory plan: rationales per prompt' -r
complete -c latrod -n "__fish_latrod_using_subcommand inspect" -l prompts-per-step -d 'Memory plan: prompts in a step' -r
complete -c latrod -n "__fish_latrod_using_subcommand inspect" -l batch -d 'Memory plan: rationales that are sampled together, at most' -r
complete -c latrod -n "__fish_latrod_using_subcommand inspect" -l prompt-tokens -d 'Memory plan: length of a prompt in tokens' -r
complete -c latrod -n "__fish_latrod_using_subcommand inspect" -l max-new-tokens -d 'Memory plan: longest rationale in tokens' -r
complete -c latrod -n "__fish_latrod_using_subcommand inspect" -l answer-tokens -d 'Memory plan: length of an answer in tokens' -r
complete -c latrod -n "__fish_latrod_using_subcommand inspect" -l rank -d 'Memory plan: rank of the adapter, on all linear layers' -r
complete -c latrod -n "__fish_latrod_using_subcommand inspect" -l compute -d 'Memory plan: exact or fast' -r -f -a "exact\t'Weights decoded to f32, products in f32'
fast\t'Activations rounded to 8 bits per block of 32 where a kernel gains from it'"
complete -c latrod -n "__fish_latrod_using_subcommand inspect" -l threads -d 'Memory plan: threads that compute' -r
complete -c latrod -n "__fish_latrod_using_subcommand inspect" -l memory-limit -d 'Memory plan: the most that training may take, for example 600M or 2G; as `latrod train` does, samples fewer rationales together and cuts rows into smaller pieces to keep to it' -r
complete -c latrod -n "__fish_latrod_using_subcommand inspect" -l json -d 'Print one JSON object instead of a table'
complete -c latrod -n "__fish_latrod_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c latrod -n "__fish_latrod_using_subcommand export" -l adapter -d 'The adapter\'s folder' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand export" -l format -d 'Who the adapter is for' -r -f -a "peft\t'A folder for PEFT and what builds on it: `adapter_config.json`, `adapter_model.safetensors`'
gguf\t'A GGUF file for llama.cpp\'s --lora'"
complete -c latrod -n "__fish_latrod_using_subcommand export" -l out -d 'What to write: a new folder for peft, a new file for gguf' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand export" -l model -d 'The GGUF model that the adapter was made for' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand export" -l force -d 'Replace what is already at --out'
complete -c latrod -n "__fish_latrod_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c latrod -n "__fish_latrod_using_subcommand plot" -l out -d 'Where to write the picture, an SVG file' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand plot" -l label -d 'Name of a run in the legend; once for each file, in their order [default: the file\'s name]' -r
complete -c latrod -n "__fish_latrod_using_subcommand plot" -l over -d 'What the curves run over: training time, the tokens sampled so far, or steps' -r -f -a "time\t'Training time, without evaluations'
tokens\t'Tokens sampled so far'
steps\t'Training steps'"
complete -c latrod -n "__fish_latrod_using_subcommand plot" -l title -d 'Title of the picture' -r
complete -c latrod -n "__fish_latrod_using_subcommand plot" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c latrod -n "__fish_latrod_using_subcommand run" -l config -d 'The configuration, a TOML file' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand run" -l root -d 'Where /proc, /sys and /run of the device lie' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand run" -s h -l help -d 'Print help'
complete -c latrod -n "__fish_latrod_using_subcommand status" -l config -d 'The daemon\'s configuration, which names its socket' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand status" -l socket -d 'The daemon\'s socket, if it is not at the usual place' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand status" -l json -d 'Print everything as JSON'
complete -c latrod -n "__fish_latrod_using_subcommand status" -s h -l help -d 'Print help'
complete -c latrod -n "__fish_latrod_using_subcommand validate" -l config -d 'The configuration file' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand validate" -l json -d 'Print one JSON object instead of text'
complete -c latrod -n "__fish_latrod_using_subcommand validate" -s h -l help -d 'Print help'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and not __fish_seen_subcommand_from tokenize detokenize logits score grad" -s h -l help -d 'Print help'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and not __fish_seen_subcommand_from tokenize detokenize logits score grad" -f -a "tokenize" -d 'Print the token ids of each line of standard input'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and not __fish_seen_subcommand_from tokenize detokenize logits score grad" -f -a "detokenize" -d 'Print the text of each line of token ids on standard input'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and not __fish_seen_subcommand_from tokenize detokenize logits score grad" -f -a "logits" -d 'Write the logits at every position of given token sequences as a NumPy file'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and not __fish_seen_subcommand_from tokenize detokenize logits score grad" -f -a "score" -d 'Score given rationales: log-probabilities, rewards and advantages, one JSON line a task'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and not __fish_seen_subcommand_from tokenize detokenize logits score grad" -f -a "grad" -d 'Write the gradient of the loss for every LoRA tensor, under PEFT\'s names and in its row order'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from tokenize" -l model -d 'The model, a GGUF file' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from tokenize" -l special -d 'Read control tokens such as `<|im_end|>` in the text as themselves, not as plain text'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from tokenize" -l json -d 'Each input line is a JSON string, so that a text may contain newlines'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from tokenize" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from detokenize" -l model -d 'The model, a GGUF file' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from detokenize" -l special -d 'Print control tokens such as `<|im_end|>`'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from detokenize" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from logits" -l model -d 'The GGUF model' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from logits" -l ids -d 'A JSON list of lists of token ids' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from logits" -l adapter -d 'A PEFT adapter folder' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from logits" -l compute -d 'exact: f32; fast: activations rounded to 8 bits' -r -f -a "exact\t'Weights decoded to f32, products in f32'
fast\t'Activations rounded to 8 bits per block of 32 where a kernel gains from it'"
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from logits" -l device -d 'Where to compute; all but cpu only if the program was built with it (cross/CUDA.md)' -r -f -a "cpu\t'The processor, with this program\'s own kernels'
candle\t'The processor, with candle\'s operations: slow, to check what GPUs compute'
cuda\t'The first NVIDIA GPU'
metal\t'The GPU of a Mac'"
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from logits" -l out -d 'The .npy file to write' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from logits" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from score" -l model -d 'The GGUF model' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from score" -l rollouts -d 'The rationales to score' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from score" -l adapter -d 'A PEFT adapter folder: the policy. Without it policy and reference are the same' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from score" -l preset -d 'The settings that the objective comes from' -r -f -a "edge\t'Rewards that cannot collapse, and guards that an unattended device needs'
paper\t'The algorithm of the paper: K 16, 500 tokens, no clipping, nothing skipped'
released\t'What the authors\' program does where it differs from the paper'"
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from score" -l reward -d 'How the answer\'s likelihood becomes a reward, instead of the preset\'s way' -r -f -a "log_prob\t'The sum of the tokens\' log-probabilities (LaTRO, eq. 4)'
mean_log_prob\t'Their mean, so that long answers don\'t outweigh short ones'
mean_prob\t'The mean of the tokens\' probabilities (RLPR, arXiv 2506.18254): between 0 and 1, so that one very unlikely token doesn\'t drown out the others. For long answers'
prob\t'Their product, the probability of the answer (VeriFree, arXiv 2505.21493): between 0 and 1. For short answers'
jepo\t'The share of a rationale in the log of the group\'s mean probability (JEPO, arXiv 2503.19618)'"
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from score" -l beta -d 'Weight of the KL term, instead of the preset\'s' -r
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from score" -l compute -d 'exact: f32; fast: activations rounded to 8 bits' -r -f -a "exact\t'Weights decoded to f32, products in f32'
fast\t'Activations rounded to 8 bits per block of 32 where a kernel gains from it'"
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from score" -l device -d 'Where to compute; all but cpu only if the program was built with it (cross/CUDA.md)' -r -f -a "cpu\t'The processor, with this program\'s own kernels'
candle\t'The processor, with candle\'s operations: slow, to check what GPUs compute'
cuda\t'The first NVIDIA GPU'
metal\t'The GPU of a Mac'"
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from score" -l json -d 'Print JSON (the only format; accepted for uniformity)'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from score" -l tokens -d 'Also print every token\'s log-probability and entropy under the policy'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from score" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from grad" -l model -d 'The GGUF model' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from grad" -l rollouts -d 'The rationales, as in `latrod debug score`' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from grad" -l adapter -d 'The PEFT adapter folder whose gradient is asked for' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from grad" -l preset -d 'The settings that the objective comes from' -r -f -a "edge\t'Rewards that cannot collapse, and guards that an unattended device needs'
paper\t'The algorithm of the paper: K 16, 500 tokens, no clipping, nothing skipped'
released\t'What the authors\' program does where it differs from the paper'"
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from grad" -l reward -d 'How the answer\'s likelihood becomes a reward, instead of the preset\'s way' -r -f -a "log_prob\t'The sum of the tokens\' log-probabilities (LaTRO, eq. 4)'
mean_log_prob\t'Their mean, so that long answers don\'t outweigh short ones'
mean_prob\t'The mean of the tokens\' probabilities (RLPR, arXiv 2506.18254): between 0 and 1, so that one very unlikely token doesn\'t drown out the others. For long answers'
prob\t'Their product, the probability of the answer (VeriFree, arXiv 2505.21493): between 0 and 1. For short answers'
jepo\t'The share of a rationale in the log of the group\'s mean probability (JEPO, arXiv 2503.19618)'"
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from grad" -l beta -d 'Weight of the KL term, instead of the preset\'s' -r
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from grad" -l compute -d 'exact: f32; fast: activations rounded to 8 bits' -r -f -a "exact\t'Weights decoded to f32, products in f32'
fast\t'Activations rounded to 8 bits per block of 32 where a kernel gains from it'"
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from grad" -l device -d 'Where to compute; all but cpu only if the program was built with it (cross/CUDA.md)' -r -f -a "cpu\t'The processor, with this program\'s own kernels'
candle\t'The processor, with candle\'s operations: slow, to check what GPUs compute'
cuda\t'The first NVIDIA GPU'
metal\t'The GPU of a Mac'"
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from grad" -l out -d 'The safetensors file to write' -r -F
complete -c latrod -n "__fish_latrod_using_subcommand debug; and __fish_seen_subcommand_from grad" -s h -l help -d 'Print help (see more with \'--help\')'
