#!/bin/sh
# Every option of every command: a value that works and shows that it did, and one that is refused by the option's name.
# The rows below and what 'help COMMAND' lists must be the same set.
. tests/tap.sh
s() { "$SLIMSCOPE" "$@"; }
M=lab_models/demo D=$tmp/ids.jsonl R=$tmp/r.yaml
printf '{"input_ids":[11,56,30,21,14,27,8,16,9,3]}\n{"input_ids":[12,5,15,28,7,19,5,15,6,7]}\n' >"$D"
sed "s|dataset: .*|dataset: ids.jsonl|" lab_practice/default/default-w8a8-dynamic.yaml >"$R"
echo 'Hello there' >"$tmp/t.txt"
printf 'open %s\nexclude *.0.mlp.down_proj *.1.self_attn.q_proj\n' $M >"$tmp/s2.slim"
printf "apiversion: modelslim_convert\nspec: {linears: [{match: ['*_proj'], target: W8A8_MXFP8}]}\n" >"$tmp/convert.yaml"
cat >"$tmp/plan.yaml" <<'P'
strategy: {type: standing_high, anti_outlier_strategies: [[]], template: {process: [{type: linear_quant, qconfig: {act: {scope: per_token,
      dtype: int8, symmetric: true, method: minmax}, weight: {scope: per_channel, dtype: int8, symmetric: true, method: minmax}}}]}}
evaluation: {type: command, run: [sh, -c, 'echo acc 1', '{model}'], demand: {expectations: [{dataset: acc, target: '1', tolerance: '0'}]}}
P
export SLIMSCOPE_DATA=$PWD

# in_session LINE...: the commands in a script with the model open
in_session() { printf '%s\n' "open $M" "calib $D" "set threads=1" "$@" | s --script -; }
# one VERB OPTIONS...: the command as the table's rows want it, options added
one() {
    verb=$1; shift
    case $verb in
    analyze) case " $* " in *" layer "*) s analyze --model_path $M "$@" ;; *" --model_path "*) s analyze --metrics std "$@" ;; *) s analyze --metrics std --model_path $M "$@" ;; esac ;;
    measure) case " $* " in *" --eval "*) s measure --model_path $M "$@" ;; *" --model_path "*) s measure --eval "$D" "$@" ;; *) s measure --model_path $M --eval "$D" "$@" ;; esac ;;
    tune)
        case " $* " in *" --config "*) s tune --model_path $M "$@"; return ;; esac
        set -- --until kl=9 "$@"
        case " $* " in *" --until kl=9"*" --until"*) shift 2 ;; esac
        case " $* " in *" --eval "*) s tune --model_path $M "$@" ;; *" --model_path "*) s tune --eval "$D" "$@" ;; *) s tune --model_path $M --eval "$D" "$@" ;; esac ;;
    fit | front) in_session "analyze block_error" "$verb $([ $verb = fit ] && echo bytes=+0) $*" ;;
    quant) s quant "$@" ;;
    convert) s convert $M "$@" ;;
    info | check) s $verb $M "$@" ;;
    report) case " $* " in *" --eval "*) s report --model_path $M "$@" ;; *" --model_path "*) s report --eval "$D" "$@" ;; *) s report --model_path $M --eval "$D" "$@" ;; esac ;;
    plot) # --kind KIND first: another one than weight
        kind=weight
        [ "${1:-}" != --kind ] || { kind=$2; shift 2; }
        case " $* " in *" --model_path"*) s plot $kind model.layers.0.mlp.down_proj "$@" ;; *) s plot $kind --model_path $M model.layers.0.mlp.down_proj "$@" ;; esac ;;
    hist | heat) case " $* " in *" --model_path"*) s $verb model.layers.0.mlp.down_proj "$@" ;; *) s $verb --model_path $M model.layers.0.mlp.down_proj "$@" ;; esac ;;
    schemes) case " $* " in *" --model_path"*) s schemes W8A8 "$@" ;; *) s schemes W8A8 --model_path $M "$@" ;; esac ;;
    forward)
        case " $*" in *" --model_path"*) set -- --ids 1,2 --out "$tmp/f" "$@" ;; *) set -- --model_path $M "$@" ;; esac
        case " $*" in *" --out"*) ;; *) set -- --out "$tmp/f" "$@" ;; esac
        s forward "$@" ;;
    generate)
        case " $*" in *" --prompt "* | *" --prompts"* | *" --prompt="*) ;; *) set -- --prompt "The old house" "$@" ;; esac
        case " $*" in *" --max-tokens"*) ;; *) set -- --max-tokens 3 "$@" ;; esac
        case " $*" in *" --float"*) in_session "generate --prompt She $(echo "$*" | sed 's/--prompt The old house//')" ;; *" --model_path"*) s generate "$@" ;; *) s generate $M "$@" ;; esac ;;
    tokenize) s tokenize "$@" ;;
    shell) printf "exclude *.0.mlp.down_proj\nhistory\n" | s shell $M "$@" ;;
    resume) s resume "$@" ;;
    attach) s attach "$@" ;;
    workbench) case " $* " in *" --force"*) s $M "$@" ;; *" --script "*) s "$@" ;; *) s workbench $M --size 90x20 "$@" ;; esac ;;
    cancel) in_session "calib boolq.jsonl" "async analyze std" "cancel $*" "wait" ;; # of a job that takes long enough
    guide | tensors) in_session "$verb $*" ;;
    rank) in_session "analyze std" "rank std $*" ;;
    compare) case " $* " in
        *" --linear"* | *" --table"* | *" --size"* | *" --glyphs"*) in_session "analyze std kurtosis" "compare hist model.layers.0.mlp.down_proj std kurtosis $*" ;;
        *) in_session "analyze std kurtosis" "compare metrics std kurtosis $*" ;;
        esac ;;
    calib) case " $* " in *" --off"*) in_session "calib tag 1" "calib tag 1 $*" "calib list" ;; *" --full"* | *" --by"*) in_session "eval $D" "calib loo 1 $*" ;; *) in_session "calib list $*" ;; esac ;;
    load) in_session "load scores $tmp/own.csv $*" ;;
    tag) in_session "tag *.0.*" "tag $* *.0.*" ;;
    log) in_session "exclude *.0.mlp.*" "log $*" ;;
    history) in_session "exclude *.0.mlp.*" "history $*" ;;
    export) in_session "export $*" ;;
    interact) case " $* " in *" --exclude "*) set -- "$@" ;; *) set -- "*.0.mlp.*" "$@" ;; esac
        case " $* " in *" --model_path"*) s interact "$@" ;; *) s interact --model_path $M "$@" ;; esac ;;
    keep) in_session "exclude *.0.mlp.down_proj" "keep A" "keep A $*" "sets" ;;
    sets) in_session "keep A" "sets $*" ;;
    rule) in_session "exclude *.0.mlp.down_proj" "rule $*" ;;
    dump) printf 'open %s\ndump %s %s\n' "$M" "$*" "$tmp/d.txt" >"$tmp/d.slim"
        s workbench --script "$tmp/d.slim" --size 60x15 && cat "$tmp/d.txt" ;;
    session) s session rm "$@" ;;
    replay) in_session "replay $* $tmp/other.slim" ;;
    quantize) in_session "recipe $R" "quantize $*" ;;
    open) printf 'open %s %s\n' "$M" "$*" | s --script - ;;
    *) return 99 ;;
    esac
}
# row VERB OPTION TEXT BAD WORDS...: with --OPTION and WORDS the command ends well and prints TEXT (on either stream, or
# FILE:NAME exists after it); --OPTION=BAD is refused, and the line names the option. BAD -: it takes no value at all;
# any: whatever is given is a value.
rows=$tmp/rows
: >"$rows"
row() {
    v=$1 o=$2 text=$3 bad=$4; shift 4
    echo "$v $o" >>"$rows"
    one "$v" "$@" >"$tmp/out" 2>&1 </dev/null
    rc=$?
    case $text in
    FILE:*) [ -s "${text#FILE:}" ] && seen=1 || seen= ;;
    *) grep -qF -- "$text" "$tmp/out" && seen=1 || seen= ;;
    esac
    if [ $rc = "${want:-0}" ] && [ -n "$seen" ]; then ok "$v --$o"; else not_ok "$v --$o"; echo "# exit $rc, wanted '$text':"; head -n 5 "$tmp/out" | sed 's/^/#   /'; fi
    case $bad in any) return ;; -) bad=x ;; esac
    set -- "--$o=$bad"
    one "$v" "$@" >"$tmp/out" 2>&1 </dev/null
    rc=$?
    if [ $rc = 64 ] && grep -qF -- "$o" "$tmp/out"; then ok "$v $1 is refused"; else not_ok "$v $1 is refused"; echo "# exit $rc:"; tail -n 3 "$tmp/out" | sed 's/^/#   /'; fi
}

# run_options VERB TEXT PREFIX...: what many verbs have; with PREFIX the verb does its work and prints TEXT
run_options() {
    v=$1 text=$2; shift 2
    row "$v" threads "$text" x "$@" --threads 1
    row "$v" mem "$text" 12Q "$@" --mem 1G
    [ "$v" != forward ] || return
    row "$v" max-samples "$text" x "$@" --max-samples 1
    row "$v" seq-len "$text" x "$@" --seq-len 4
    row "$v" dtype-sim "$text" fp8 "$@" --dtype-sim exact
    row "$v" compat "$text" other "$@" --compat peer
    row "$v" seed "$text" x "$@" --seed 7
    row "$v" profile "$text" - "$@" --profile
    row "$v" cache-dir "$text" "" "$@" --cache-dir "$tmp/cache-$v"
    row "$v" progress "$text" sometimes "$@" --progress never
}
c="--calib_dataset $D"
# shellcheck disable=SC2086
{
row analyze model_path "std method" "" --model_path $M $c
row analyze model_type "std method" "" --model_type qwen3 $c
row analyze device "std method" gpu --device cpu $c
row analyze read "std method" twice --read once $c
row analyze trust_remote_code "std method" maybe --trust_remote_code False $c
row analyze pattern "Total layers analyzed: 8" "" --pattern '*.down_proj' $c
row analyze quant_modules "Patterns analyzed: ['*.mlp.*']" "" layer --quant_modules '*.mlp.*' $c
row analyze scheme "Scheme: W8A8_DYNAMIC" W3A3 layer --scheme W8A8_DYNAMIC $c
row analyze recipe "Scheme: W8A8_DYNAMIC" "" layer --recipe "$R" $c
row analyze metrics "kurtosis method" "" --metrics kurtosis $c
row analyze calib_dataset "std method" "" $c
row analyze tokens '"tokens":9' x --metrics alone --tokens 9 --format json $c
row analyze labels '"labels":1' both --metrics fisher --labels data --format json $c
row analyze topk "Top 1 most sensitive" x --topk 1 $c
row analyze format '"metric":"std"' xml --format json $c
row analyze out "FILE:$tmp/ranking" "" --out "$tmp/ranking" $c
run_options analyze "std method" $c
row measure model_path "KL divergence" "" --model_path $M $c
row measure model_type "KL divergence" "" --model_type qwen3 $c
row measure read "KL divergence" twice --read all $c
row measure recipe "KL divergence" "" --recipe "$R"
row measure exclude "4 of 56 linears float" "" --exclude '*.0.mlp.down_proj' '*.1.self_attn.q_proj' $c
row measure eval "KL divergence" "" --eval "$D" $c
row measure calib_dataset "KL divergence" "" $c
row measure full "KL divergence" - --full $c
row measure ctx "KL divergence" x --ctx 64 $c
row measure format '"kl"' xml --format json $c
row measure out "FILE:$tmp/effect" "" --out "$tmp/effect" $c
row measure runtime "KL divergence" cuda --runtime vllm-ascend $c
run_options measure "KL divergence" $c
p="--save_path $tmp/tuned --config $tmp/plan.yaml"
row tune config "MET" "" --save_path "$tmp/tuned" --config "$tmp/plan.yaml"
row tune save_path "$tmp/tuned" "" --config "$tmp/plan.yaml" --save_path "$tmp/tuned"
row tune timeout "MET" "3 fortnights" $p --timeout 1h30m
row tune read "MET" twice $p --read once
row tune device "MET" gpu $p --device cpu
row tune trust_remote_code "MET" maybe $p --trust_remote_code False
row tune until "held after 1 measurement" kl --until kl=8 $c
row tune model_path "held after" "" --model_path $M $c
row tune model_type "held after" "" --model_type qwen3 $c
row tune recipe "held after" "" --recipe "$R"
row tune exclude "  4  " "" --exclude '*.0.mlp.down_proj' '*.1.self_attn.q_proj' $c
row tune eval "held after" "" --eval "$D" $c
row tune calib_dataset "held after" "" $c
row tune full "held after" - --full $c
row tune ctx "held after" x --ctx 64 $c
row guide format '"goal":' yaml --format json
row tensors format '"tensors":[' yaml list --format json
row guide beside '+ {type: iter_smooth' - whatif S2a --beside
row tune free "held after" - --free $c
row tune format '"met":true' xml --format json $c
row tune out "FILE:$tmp/tuned.yaml" "" --out "$tmp/tuned.yaml" $c
row tune runtime "held after" cuda --runtime vllm-ascend $c
run_options tune "held after" $c
row fit dry-run "would need" - --dry-run
row fit free "0 groups held" - --free
row fit format '"applied":true' xml --format json
row front free "(knee)" - --free
row front format '"front"' xml --format json
q="--model_path $M --config_path $R --save_path $tmp/q --dry-run"
row quant model_path "56 linears" "" $q
row quant save_path "$tmp/q" "" $q
row quant model_type "56 linears" "" $q --model_type qwen3
row quant config_path "56 linears" "" $q
row quant quant_type "practice" w1a1 --model_path $M --save_path "$tmp/q" --dry-run --quant_type w8a8
row quant tag "practice" "" --model_path $M --save_path "$tmp/q" --dry-run --quant_type w8a8 --tag Ascend
row quant read "56 linears" twice $q --read once
row quant device "56 linears" gpu $q --device cpu
row quant trust_remote_code "56 linears" maybe $q --trust_remote_code True
row quant yes "56 linears" - --model_path $M --save_path "$tmp/yes" --quant_type w8a8 --yes --max-samples 1 --seq-len 8
row quant why "candidate" - --model_path $M --save_path "$tmp/q" --dry-run --quant_type w8a8 --why
row quant dry-run "56 linears" - $q
row quant format '"linears"' xml $q --format json
w="--model_path $M --config_path $R"
row quant runtime "56 linears" cuda $q --runtime vllm-ascend
row quant resume "56 linears" - $w --save_path "$tmp/q1" --resume
row quant verify "0 problems" - $w --save_path "$tmp/q2" --verify
row quant force "56 linears" - $w --save_path "$tmp/q2" --force
d="--to mxfp8 --save_path $tmp/cv --dry-run"
row convert to "W8A8_MXFP8" bf8 $d
row convert match "56 linears" "" --to bf16 --match '*_proj' --save_path "$tmp/cv" --dry-run
row convert saver "quant_model_weights-00001" zip --to bf16 --saver ascend_v1 --save_path "$tmp/cv" --dry-run
row convert config_path "W8A8_MXFP8" "" --config_path "$tmp/convert.yaml" --save_path "$tmp/cv" --dry-run
row convert save_path "$tmp/cv" "" $d
row convert model_type "T_best_practice.yaml" "" $d --model_type T
row convert dry-run "FLOAT" - $d
row convert format '"ways"' xml $d --format json
row convert threads "buffers of 1 thread " x --to mxfp8 --save_path "$tmp/cv1" --threads 1
row convert mem "buffers of" 12Q --to mxfp8 --save_path "$tmp/cv1" --force --mem 100M
row convert force "written in" - --to mxfp8 --save_path "$tmp/cv1" --force
row convert resume "holds this model already" - --to mxfp8 --save_path "$tmp/cv1" --resume
row convert verify "all as converted" - --to mxfp8 --save_path "$tmp/cv2" --verify
row convert compat "writes nothing of it" other $d --compat peer
row convert progress '"phase":"convert"' sometimes --to mxfp8 --save_path "$tmp/cv3" --progress json
row quant debug "FILE:$tmp/q3/debug_info/debug_info.json" - $w --save_path "$tmp/q3" --debug
run_options quant "56 linears" $q
row quantize save "FILE:$tmp/q4/config.json" "" --save "$tmp/q4"
row quantize runtime "56 linears" cuda --save "$tmp/q8" --dry-run --runtime vllm-ascend
row quantize resume "56 linears" - --save "$tmp/q5" --resume
row quantize verify "0 problems" - --save "$tmp/q6" --verify
row quantize debug "FILE:$tmp/q7/debug_info/debug_info.json" - --save "$tmp/q7" --debug
row quantize dry-run "56 linears" - --save "$tmp/q8" --dry-run
row quantize format '"linears"' xml --save "$tmp/q9" --dry-run --format json
row check format '"tensors"' xml --format json
row check threads "nothing bad" x --threads 1
row check runtime "nothing bad" cuda --runtime vllm
row check progress "nothing bad" sometimes --progress never
row report model_path "Block error" "" --model_path $M $c
row report model_type "Block error" "" --model_type qwen3 $c
row report recipe "Block error" "" --recipe "$R"
row report exclude "#1 (present): KL" "" --exclude '*.0.mlp.down_proj' '*.1.self_attn.q_proj' $c
row report eval "#1 (present): KL" "" --eval "$D" $c
row report calib_dataset "Block error" "" $c
row report full "#1 (present): KL" - --full $c
row report ctx "#1 (present): KL" x --ctx 64 $c
row report format "<!DOCTYPE html>" pdf --format html $c
row report out "FILE:$tmp/report.html" "" --out "$tmp/report.html" $c
row report glyphs "####" runes --glyphs ascii $c
row report runtime "Block error" cuda --runtime vllm-ascend $c
run_options report "Block error" $c
row plot model_path "weight values" "" --model_path $M
row plot model_type "weight values" "" --model_type qwen3
row plot calib_dataset "input activations" "" --kind input $c
sed 's/^  process:$/  process:\n    - type: "kv_smooth"/' "$R" >"$tmp/kv.yaml"
row plot recipe "of the model behind kv_smooth" "" --kind input $c --recipe "$tmp/kv.yaml"
row plot before "of the model before kv_smooth" - --kind input $c --recipe "$tmp/kv.yaml" --before
row plot level "level W4A8_DYNAMIC" W3 --kind dequantized --level W4A8
row plot at ": 99 % lie below" p101 --at p99
row plot zoom "-0.01 " 2..1 --zoom=-0.01..0.01
row plot area "group 1 of channel 3" 3 --kind error --area 1-1,3-3
row plot linear "counts linear" - --linear
row plot largest "largest of each field" - --kind error --largest
row plot table "share" - --table
row plot size "weight values" 3x3 --size 40x12
row plot format '"count"' xml --format json
row plot out "FILE:$tmp/plot" "" --out "$tmp/plot"
row plot glyphs "#" runes --glyphs ascii
run_options plot "input activations" --kind input $c
row hist model_path "values from" "" --model_path $M
row hist model_type "values from" "" --model_type qwen3
row hist bins "  -3 std" x --bins 5
row hist log "values from" - --log
row hist format '"counts"' xml --format json
row hist out "FILE:$tmp/hist" "" --out "$tmp/hist"
row hist glyphs "@" runes --glyphs ascii
row heat model_path "groups downwards" "" --model_path $M
row heat model_type "groups downwards" "" --model_type qwen3
row heat group "groups of 16;" x --group 16
row heat scheme "W4A8_DYNAMIC" W3 --scheme W4A8_DYNAMIC
row heat size "groups downwards" 0x4 --size 10x3
row heat max "largest mean square error" - --max
row heat format '"mean"' xml --format json
row heat out "FILE:$tmp/heat" "" --out "$tmp/heat"
row heat glyphs "@" runes --glyphs ascii
row schemes model_path "worst linear" "" --model_path $M
row schemes model_type "worst linear" "" --model_type qwen3
row schemes format '"schemes"' xml --format json
row schemes out "FILE:$tmp/schemes" "" --out "$tmp/schemes"
row schemes threads "worst linear" x --threads 2
row schemes mem "worst linear" x --mem 200M
row info model_type "56 can be quantized" "" --model_type qwen3
row info rows "for 5 tokens" x --rows 5 --longest 5
row info longest "longest text 7" x --rows 9 --longest 7
row info threads "3 threads" x --threads 3
row info format '"linears"' xml --format json
row info hash "  model.safetensors" - --hash
row info progress "56 can be quantized" sometimes --progress never
f="--out $tmp/f.safetensors"
row forward model_path "FILE:$tmp/f" "" --model_path $M
row forward model_type "FILE:$tmp/f.safetensors" "" --model_type qwen3 --ids 1,2 $f
row forward ids "FILE:$tmp/f.safetensors" 1,x --ids 1,2 $f
row forward text "FILE:$tmp/f.safetensors" any --text 'The house' $f
row forward out "FILE:$tmp/f2" "" --ids 1,2 --out "$tmp/f2"
row forward dtype-sim "FILE:$tmp/f.safetensors" fp8 --ids 1,2 $f --dtype-sim exact
run_options forward "FILE:$tmp/f.safetensors" --ids 1,2 $f
printf '{"text":"She was"}\n{"input_ids":[5,6,7]}\n' >"$tmp/prompts.jsonl"
row generate prompt "1 text at a time" any --prompt 'She was'
row generate prompts "#2" "" --prompts "$tmp/prompts.jsonl"
row generate max-tokens "5 tokens in" x --max-tokens 5
want=65 row generate chat "has no chat template" - --chat
row generate recipe "tokens/s" "" --recipe "$R"
row generate float "tokens/s" - --float
row generate model_path "tokens/s" "" --model_path $M
row generate model_type "tokens/s" "" --model_type qwen3
row generate calib_dataset "tokens/s" "" --recipe "$R" $c
row generate format '"end":"length"' xml --format json
row generate out "FILE:$tmp/said" "" --out "$tmp/said"
row generate threads "tokens/s" x --threads 1
row generate mem "tokens/s" 12Q --mem 1G
row generate max-samples "tokens/s" x --recipe "$R" --max-samples 1
row generate seq-len "tokens/s" x --recipe "$R" --seq-len 4
row generate dtype-sim "tokens/s" fp8 --dtype-sim exact
row generate compat "tokens/s" other --recipe lab_practice/default/default-w8a8-static.yaml $c --compat peer
row tokenize model_path "[" "" --model_path $M --text a
row tokenize tokenizer "[" "" --tokenizer $M/tokenizer.json --text a
row tokenize text "[]" any --model_path $M --text ''
row tokenize file "," "" --model_path $M --file "$tmp/t.txt"
printf '{"t":"Hello there"}\n' >"$tmp/t.jsonl"
row tokenize jsonl "," any --model_path $M --jsonl t "$tmp/t.jsonl"
row tokenize no-special "," - --model_path $M --text 'Hello there' --no-special
row open model_type "Qwen 3" "" --model_type qwen3
want=130 row cancel now "stopped" - --now
row history save "FILE:$tmp/h.slim" "" --save "$tmp/h.slim"
row log save "FILE:$tmp/log.txt" "" --save "$tmp/log.txt"
row log kind ":exclude" nonsense --kind command
want=65 row log job "is such a one" x --job 7
printf '# model x, fingerprint 0123456789abcdef\nexclude *.0.*\n' >"$tmp/other.slim"
row dump all "layers.7.mlp.up_proj" - --all
row rule format '"rules"' xml --format json
row replay force "linears sent to float" - --force
want=64 row replay pace "for the workbench" x --pace 5
row export preview "apiversion" - --preview
row export runtime "apiversion" cuda --preview --runtime vllm-ascend
printf 'name,score\nmodel.layers.0.mlp.down_proj,3\n' >"$tmp/own.csv"
row calib off "2 of 2 texts used" - --off
row calib full "without text 1" - --full
row calib by "block_error, summed over" kurtosis --by block_error
row calib format '"rows":[' xml --format json
row calib out "FILE:$tmp/texts" "" --out "$tmp/texts"
row load as "mine" "" --as mine
row export as "name,group,level" xml --preview --as csv
row compare format '"spearman"' xml --format json
row compare out "FILE:$tmp/compared" "" --out "$tmp/compared"
row compare topk "and 50 more" x --topk 6
row compare linear "counts linear" - --linear
row compare table "share" - --table
row compare size "weight" 3x3 --size 60x20
row compare glyphs "#" runes --glyphs ascii
row rank pattern "Total layers analyzed: 8" "" --pattern '*.down_proj'
row rank topk "Top 1 most sensitive" x --topk 1
row rank format '"metric":"std"' xml --format json
row rank out "FILE:$tmp/rank" "" --out "$tmp/rank"
row tag off "0 tagged" - --off
d="--dump-screen $tmp/screen"
for v in shell workbench; do
    text="FILE:$tmp/screen" more=$d
    [ $v = workbench ] || text="exclude *.0" more=
    row $v model_type "$text" "" --model_type qwen3 $more
    row $v recipe "$text" "" --recipe "$R" $more
    row $v calib_dataset "$text" "" $c $more
    row $v eval "$text" "" --eval "$D" $more
    row $v ctx "$text" x --ctx 32 $more
    row $v tokens "$text" x --tokens 9 $more
    row $v labels "$text" both --labels data $more
    row $v runtime "$text" cuda --runtime mindie $more
    row $v budget "$text" lots --budget +1M $more
    row $v session-cap "$text" lots --session-cap 2G $more
    run_options $v "$text" $more
done
row workbench read-only "$text" - --read-only $more
want=64 row shell read-only "opened with --read-only: nothing is changed" - --read-only
row workbench script "4 linears" "" --script "$tmp/s2.slim"
row workbench force "linears sent to float" - --script "$tmp/other.slim" --force
row workbench ui "FILE:$tmp/screen" - --ui --script "$tmp/s2.slim" --size 90x20 $d
row workbench session "FILE:$tmp/screen" "no/name" --session here $d
row workbench pace "FILE:$tmp/screen" x --ui --script "$tmp/s2.slim" --size 90x20 --pace 1 $d
row workbench size "FILE:$tmp/screen" 80 $d
row workbench dump-screen "FILE:$tmp/screen" "" $d
row workbench theme "FILE:$tmp/screen" "" --theme light $d
row workbench glyphs "FILE:$tmp/screen" runes --glyphs ascii $d
row interact pairs "x model.layers" x --pairs 1
row interact dry-run "to measure" - --dry-run
row interact format '"joint":' xml --format json
row interact tokens "KL on 9 tokens" x --tokens 9 --calib_dataset "$D"
row interact model_path "interaction " "" --model_path $M
row interact model_type "interaction " "" --model_type qwen3
row interact recipe "interaction " "" --recipe "$R"
row interact exclude "2 groups" "" --exclude "*.0.mlp.*"
row interact calib_dataset "interaction " "" --calib_dataset "$D"
row interact threads "interaction " x --threads 1
row interact mem "interaction " x --mem 2G
row interact max-samples "interaction " x --max-samples 1
row interact seq-len "interaction " x --seq-len 9
row interact dtype-sim "interaction " x --dtype-sim fast
row interact compat "interaction " x --compat peer
row interact seed "interaction " x --seed 3
row interact profile "CPU time" - --profile
row interact cache-dir "interaction " "" --cache-dir "$tmp/cd"
row interact progress "interaction " x --progress never
row keep drop "no longer kept" - --drop
row sets format '"sets":' xml --format json
row workbench lang "FILE:$tmp/screen" tlh --lang zh $d
row workbench color "FILE:$tmp/screen" red --color never $d
row workbench no-color "FILE:$tmp/screen" - --no-color $d
row workbench mouse "FILE:$tmp/screen" - --mouse $d
row workbench no-mouse "FILE:$tmp/screen" - --no-mouse $d
row workbench calm "FILE:$tmp/screen" - --calm $d
row resume list "$M" - --list
want=64 row resume headless "no stopped job to go on with" - --headless
row session older "sessions deleted" x --older 30
want=65 row resume from "no such file" "" --headless --from "$tmp/none"
row resume progress "$M" sometimes --list --progress never
r="--size 80x24 --dump-screen $tmp/screen"
row resume size "FILE:$tmp/screen" 80 $r
row resume dump-screen "FILE:$tmp/screen" "" $r
row resume theme "FILE:$tmp/screen" "" --theme light $r
row resume glyphs "FILE:$tmp/screen" runes --glyphs ascii $r
row resume lang "FILE:$tmp/screen" any --lang zh $r
row resume color "FILE:$tmp/screen" red --color never $r
row resume no-color "FILE:$tmp/screen" - --no-color $r
row resume mouse "FILE:$tmp/screen" - --mouse $r
row resume no-mouse "FILE:$tmp/screen" - --no-mouse $r
row resume calm "FILE:$tmp/screen" - --calm $r
row resume threads "FILE:$tmp/screen" x --threads 1 $r
row resume no-run "FILE:$tmp/screen" - --no-run $r
row resume force "FILE:$tmp/screen" - --force $r
want=65 row resume delete "no session 'none'" - --delete none
row resume prune "0 sessions deleted" x --prune 1
row analyze session "kept as session kept" "" --model_path $M $c --session kept
row measure session "kept as session kept2" "" --model_path $M $c --session kept2
row tune session "kept as session kept3" "" --model_path $M $c --session kept3
row quant session "kept as session kept4" "" $q --session kept4
row report session "kept as session kept5" "" --session kept5 $c
# a workbench on a terminal of its own, whose one job has ended
printf 'analyze std\n' >"$tmp/idle.slim"
python3 - "$SLIMSCOPE" $M --session opt --ui --script "$tmp/idle.slim" --max-samples 1 --seq-len 8 >/dev/null 2>&1 <<'PY' &
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execvp(sys.argv[1], sys.argv[1:])
try:
    while os.read(fd, 65536):
        pass
except OSError:
    pass
PY
idle=$!
i=0
until s attach opt --once 2>/dev/null | grep -q "attached to opt" || [ $i -ge 200 ]; do sleep 0.1; i=$((i + 1)); done
a="opt --size 80x24 --dump-screen $tmp/screen"
row attach progress "attached to opt, pid" sometimes opt --progress text
row attach once "attached to opt, pid" - opt --once
want=64 row attach cancel "no job is running" - opt --cancel
row attach size "FILE:$tmp/screen" 80 $a
row attach dump-screen "FILE:$tmp/screen" "" $a
row attach theme "FILE:$tmp/screen" "" --theme light $a
row attach glyphs "FILE:$tmp/screen" runes --glyphs ascii $a
row attach lang "FILE:$tmp/screen" any --lang zh $a
row attach color "FILE:$tmp/screen" red --color never $a
row attach no-color "FILE:$tmp/screen" - --no-color $a
row attach mouse "FILE:$tmp/screen" - --mouse $a
row attach no-mouse "FILE:$tmp/screen" - --no-mouse $a
row attach calm "FILE:$tmp/screen" - --calm $a
kill $idle
}
s help >"$tmp/help"
for v in $(sed -n 's/^  \([a-z]*\)  *[A-Z].*/\1/p' "$tmp/help" | sort -u); do
    s help "$v" | sed -n "s/^  --\([a-z_-]*\).*/$v \1/p"
done | sort >"$tmp/offered"
sort "$rows" >"$tmp/tried"
same "$tmp/offered" "$tmp/tried" "every option that is offered has a row here, and no row is left over"
finish
